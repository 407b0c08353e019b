"""The weights in a file, for a network: all of them, to evaluate it, or those that fit, to begin.

A file of ours says what it was trained as and on; one of the published code says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from experiment.data_description import (
    DataDescription,
    description_in,
    listed,
    other_samples,
    refuse_other_classes,
)
from experiment.flag.identity import differences, refuse_other_arguments
from experiment.flag.lookup import names_of
from experiment.flag.row import Role
from model import RateModel
from util.checkpoint import CheckpointError, load_with_model
from util.data import FOLDER

SHAPING = ("arch", "width", "stem")  # the flags that decide the weights of all but heads


class SavedWeights(NamedTuple):
    """What a file holds: weights by our names, and what it says of them.

    arguments: what its run computes, by flag; data: what it was trained on, None: it says nothing.
    """

    path: Path
    weights: dict[str, Tensor]
    arguments: dict[str, Any]
    data: DataDescription | None

    def misfits(self, net: RateModel) -> dict[str, str]:
        """The weights that only one of file and network has, or in another shape, in words."""
        wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        found = {key: tuple(value.shape) for key, value in self.weights.items()}
        return {
            key: f"{key} has shape {found.get(key, '(missing)')}, expected "
            f"{wanted.get(key, '(none)')}"
            for key in wanted | found
            if found.get(key) != wanted.get(key)
        }


def saved_weights(path: Path) -> SavedWeights:
    """Raises: CheckpointError for a damaged file, or one that holds no weights."""
    content = load_with_model(path)
    arguments = content.get("arguments", {})
    if not isinstance(arguments, dict):
        raise CheckpointError(
            f"checkpoint {path} is none of a run: its arguments are {arguments!r}"
        )
    try:
        return SavedWeights(path, content["model"], arguments, description_in(content))
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error


def load_whole(
    net: RateModel, path: Path, identity: dict[str, Any], data: DataDescription
) -> list[str]:
    """The weights in the file into a network that a command describes, and evaluates on `data`.

    Returns why its accuracy may not be comparable with that of the training, each in a sentence.
    A network without branches takes those of one with branches; nothing else may be missing.
    Raises: CheckpointError if the file says that they belong to another network or data set, or to
    other classes. What it does not say is taken to be as asked for.
    """
    saved = saved_weights(path)
    names = ("dataset", *names_of(identity.get("dataset"), Role.NETWORK))
    known = identity | saved.arguments
    try:
        refuse_other_arguments(*({n: values.get(n) for n in names} for values in (known, identity)))
        refuse_other_classes(saved.data, data)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error
    if not net.branches:
        own = {k: v for k, v in saved.weights.items() if not k.startswith("branches.")}
        saved = saved._replace(weights=own)
    problems = list(saved.misfits(net).values())
    if problems:
        raise CheckpointError(
            f"{path} belongs to another network ({problems[0]}; {len(problems)} differences): "
            "give the arch, width, method and data set that it was trained with"
        )
    net.load_state_dict(saved.weights)
    names = names_of(identity.get("dataset"), Role.DATA)
    others = differences(*({n: values.get(n) for n in names} for values in (known, identity)))
    sentences = [f"it was trained with {', '.join(others)}" if others else None]
    sentences.append(other_samples(saved.data, data))
    return [sentence for sentence in sentences if sentence is not None]


def begin_with(net: RateModel, path: Path, identity: dict[str, Any], data: DataDescription) -> str:
    """The weights in the file as initial ones of a network for `data`; a line says which.

    All but branches and classifiers must fit. A branch is taken if the file has it; a classifier if
    its classes are the same, in the same order, or as many where the file does not name them.
    Raises: CheckpointError for the weights of another network.
    """
    saved, own = saved_weights(path), net.state_dict()
    misfits = {key: words for key, words in saved.misfits(net).items() if key in own}
    heads = head_layers(own)
    unfit = {key: _part(key, heads) for key in misfits}
    problems = [misfits[key] for key, part in unfit.items() if part is None]
    refuse_another_network(saved, net, identity, problems)
    branches = {part for part in unfit.values() if part is not None and part not in heads}
    others = saved.data is not None and saved.data.class_names != data.class_names
    classifiers = {
        head
        for head in heads
        if head.rpartition(".")[0] not in branches and (others or head in unfit.values())
    }
    fresh = classifiers | branches | {f"{branch}.classifier" for branch in branches}
    taken = {key: saved.weights[key] for key in own if _part(key, heads) not in fresh}
    net.load_state_dict(taken, strict=False)
    parts = [f"weights of {len(_layers(taken))} of {len(_layers(own))} layers taken"]
    if branches:
        parts.append("fresh: the branches, which it lacks")
    if classifiers:
        parts.append(f"fresh: {_counted(classifiers)} ({_of_classes(saved, heads[-1], data)})")
    elif saved.data is None:
        parts.append("it does not name its classes, so they are taken to be these")
    if not net.branches and any(_part(key, ()) for key in saved.weights):
        parts.append("left: its branches, for which this --method has no use")
    return f"--init {path}: {'; '.join(parts)}"


def head_layers(weights: Iterable[str]) -> list[str]:
    """The layers whose answers are logits, the network's own last."""
    branches = sorted(
        _layers(key for key in weights if re.match(r"branches\.\d+\.classifier", key))
    )
    (*_, own) = (key for key in weights if key.startswith("classifier."))
    return [*branches, *_layers([own])]


def _part(key: str, heads: Collection[str]) -> str | None:
    """What a weight is taken or left with: its head's layer, its branch, or None: all the rest."""
    (layer,) = _layers([key])
    branch = re.match(r"branches\.\d+", key)
    return layer if layer in heads else branch and branch[0]


def _layers(keys: Iterable[str]) -> set[str]:
    return {key.rpartition(".")[0] for key in keys}


def _counted(classifiers: Collection[str]) -> str:
    number = len(classifiers)
    return "the classifier" if number == 1 else f"the classifiers of {number} heads"


def _of_classes(saved: SavedWeights, head: str, data: DataDescription) -> str:
    """How the classes in the file differ from those of the data."""
    weight = saved.weights.get(f"{head}.weight")
    if weight is None:
        return "none there"
    if len(weight) != data.num_classes:
        return f"{len(weight)} classes there, {data.num_classes} here"
    return f"other classes there: {listed(saved.data.class_names)}"


def refuse_another_network(
    saved: SavedWeights, net: RateModel, identity: dict[str, Any], problems: Sequence[str]
) -> None:
    """CheckpointError, with the flags to give, if weights do not fit or say that they do not."""
    known = {name: saved.arguments.get(name, identity[name]) for name in SHAPING}
    other = {name: value for name, value in known.items() if value != identity[name]}
    if not problems and other.keys() <= {"width"}:  # a width in other words
        return
    stem = saved.weights.get("stem.conv.weight")
    if stem is not None and stem.shape[1] != net.in_channels:
        there = stem.shape[1]
        own = identity.get("dataset") == FOLDER  # pictures, which are read as is asked for
        advice = f"give --channels {there}" if own else "name other data"
        raise CheckpointError(
            f"--init {saved.path} was trained on data of {there} channels, and these have "
            f"{net.in_channels}: {advice}"
        )
    if other:
        flags = " ".join(f"--{name} {value or 'paper'}" for name, value in other.items())
        raise CheckpointError(f"--init {saved.path} was trained with {flags}: give the same")
    raise CheckpointError(
        f"--init {saved.path} holds the weights of another network ({problems[0]}; {len(problems)} "
        "differences): give the --arch, --width and --stem that it was trained with"
    )
