"""The flags of a run as its files say them: its checkpoint, and config.json beside it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiment.flag.identity import refuse_other_arguments
from experiment.flag.kinds import Location
from experiment.flag.lookup import all_datasets, experiment_with, names_of
from experiment.flag.row import Role
from experiment.train.folder import PLACES, is_run_folder
from util.checkpoint import CheckpointError, glance

Flags = Mapping[str, argparse.Action]  # by the name of the value


def begin_with_loose_file(args: argparse.Namespace) -> None:
    """--resume with a file outside a run folder is --init: it gives a new run its weights.

    Raises: CheckpointError if there is an --init, too.
    """
    if not (isinstance(args.resume, Path) and args.resume.is_file()):
        return
    if args.evaluate is not None or is_run_folder(args.resume.parent):
        return
    if args.init is not None:
        raise CheckpointError(
            f"--resume {args.resume} lies outside a run folder, so it gives initial weights, as "
            "--init does: give one of them"
        )
    args.init, args.resume = args.resume, None


def flags_of_named_run(
    args: argparse.Namespace, flags: Flags, given: Collection[str]
) -> dict[str, Any]:
    """The flags of the run whose checkpoint is named by --evaluate or --resume, as far as known.

    What is computed stands in the checkpoint; how it is carried out, where the data lie, and to
    how many epochs the run was extended, in config.json. A published file says nothing, and neither
    does one that this process does not see.
    Raises: CheckpointError for a damaged file, or one of another experiment or data set than is
    given.
    """
    path = args.resume if args.evaluate is None else args.evaluate
    if not isinstance(path, Path) or not path.exists() or getattr(args, "check_data", False):
        return {}
    arguments = glance(path).get("arguments")
    if not isinstance(arguments, dict):
        return {}
    dataset = arguments.get("dataset")
    if dataset is not None and dataset not in flags["dataset"].choices:
        name = experiment_of(arguments, path)
        raise CheckpointError(
            f"checkpoint {path} was trained on {dataset}: give it to experiment/{name}/main.py"
        )
    if "dataset" in given and dataset is not None:
        try:
            refuse_other_arguments({"dataset": dataset}, {"dataset": args.dataset})
        except ValueError as error:
            raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error
    names = (*names_of(dataset, Role.LOOP), *PLACES, "num_epoch")
    return checked_flags(arguments, flags, path) | flags_beside(path, flags, names)


def experiment_of(arguments: Mapping[str, Any], path: Path) -> str:
    """The experiment of a run with these flags. Raises: CheckpointError if there is none."""
    dataset = arguments.get("dataset")
    name = experiment_with(dataset)
    if name is None:
        raise CheckpointError(
            f"checkpoint {path} was trained on data set {dataset!r}: expected one of "
            f"{', '.join(all_datasets())}"
        )
    return name


def checked_flags(arguments: Mapping[str, Any], flags: Flags, path: Path) -> dict[str, Any]:
    """The flags in a checkpoint, each value by its parser's own rules.

    One that there is no more, and that was off, is left out.
    Raises: CheckpointError for a flag that is not known, or a value that it does not take.
    """
    values = {}
    for name, value in arguments.items():
        if name not in flags and value in (None, False):
            continue
        try:
            values[name] = _checked(flags.get(name), value)
        except argparse.ArgumentTypeError as error:
            raise CheckpointError(
                f"checkpoint {path} was saved with {name} {value!r}, which this version does not "
                f"take ({error}): use the version of the program that saved it"
            ) from error
    return values


def flags_beside(path: Path, flags: Flags, names: Iterable[str] = PLACES) -> dict[str, Any]:
    """What config.json beside a checkpoint says of these flags; none if it is not ours."""
    try:
        arguments = json.loads((path.parent / "config.json").read_bytes())["arguments"]
        found = {name: arguments[name] for name in names if name in flags and name in arguments}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    values = {}
    for name, value in found.items():
        with suppress(argparse.ArgumentTypeError):
            values[name] = _checked(flags[name], value)
    places = {name: values[name] for name in PLACES if values.get(name) is not None}
    return values | {name: _found(place, path.parent) for name, place in places.items()}


def _checked(flag: argparse.Action | None, value: Any) -> Any:
    """A value as the flag's parser gives it; None is what several flags have for a word."""
    if flag is None:
        raise argparse.ArgumentTypeError("there is no such flag")
    if flag.choices is not None and value not in [flag.default, *flag.choices]:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(flag.choices)}")
    if value is None:
        return None
    if isinstance(value, bool) != isinstance(flag, argparse.BooleanOptionalAction):
        raise argparse.ArgumentTypeError("switches are true or false, and others are not")
    if isinstance(flag.type, Location):
        if not isinstance(value, str):
            raise argparse.ArgumentTypeError("expected a path")
        return Path(value)  # it need not be there any more
    return value if flag.type is None or isinstance(value, bool) else flag.type(str(value))


def _found(path: Path, run_folder: Path) -> Path:
    """A place that config.json names; earlier versions named it from where the run was started.

    That is mostly here, two folders above the run's, or where the program lies.
    """
    starts = (Path(), run_folder.absolute().parent.parent, Path(__file__).parents[2])
    return next((start / path for start in starts if (start / path).exists()), path)
