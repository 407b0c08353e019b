"""What parsed flags mean to the layers below `main`, which see no parsed arguments."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from experiment.data_description import DataDescription
from experiment.flag.amp import PRECISIONS
from experiment.flag.lookup import flags_of, names_of
from experiment.flag.row import IDENTITY, Role, silenced, without_effect
from experiment.train.recipe import Recipe
from experiment.train.task import Data, Request
from model import Execution, RateModel, build_model
from util.training_part import WHOLE, TrainingPart

EXECUTION = ("compile", "sparse")  # of the flags on method and network, those about kernels


def in_effect(args: argparse.Namespace, name: str) -> bool:
    """Whether a flag is on and no condition says that it has no effect."""
    silent = silenced(flags_of(args.dataset), args).values()
    return bool(getattr(args, name)) and not any(name in names for names in silent)


def network_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that `model.build_model` takes, by its names."""
    execution = Execution(
        backend="compiled" if in_effect(args, "compile") else "auto",
        sparse=in_effect(args, "sparse"),
        **PRECISIONS[args.amp].execution,
    )
    names = names_of(args.dataset, Role.NETWORK, Role.METHOD)
    arguments = {name: getattr(args, name) for name in names if name not in EXECUTION}
    return {"execution": execution, **arguments}


def network_of(args: argparse.Namespace, data: Data | DataDescription) -> RateModel:
    """The network that the flags name, for data with these classes and channels."""
    classes = len(data.class_names)
    return build_model(**network_arguments(args), num_classes=classes, in_channels=data.channels)


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The flags that the engine takes."""
    values = {field.name: getattr(args, field.name) for field in fields(Recipe)}
    return Recipe(**{**values, "cuda_graph": in_effect(args, "cuda_graph")})


def training_part_of(args: argparse.Namespace) -> TrainingPart:
    """What of the training set is learned from; --check_data looks at all of it."""
    if getattr(args, "check_data", False):
        return WHOLE
    return TrainingPart(args.train_per_class, args.label_noise, args.seed)


def time_steps_name(args: argparse.Namespace) -> str:
    """T4, or T1-4 where each batch draws its own number (--T_min)."""
    least = f"{args.T_min}-" if in_effect(args, "T_min") else ""
    return f"T{least}{args.T}"


def method_name(args: argparse.Namespace) -> str:
    """The method, and what of teacher, branches and average is in effect and not the paper's."""
    usual = {"teacher": "reliable", "branch_gradient": "joined"}
    values = {name: getattr(args, name) for name in usual if in_effect(args, name)}
    others = [value for name, value in values.items() if value != usual[name]]
    averaged = [f"ema{args.ema:g}"] if in_effect(args, "ema") else []
    return "-".join([args.method, *others, *averaged])


def request_of(args: argparse.Namespace, *names: str) -> Request:
    """The flags that say what to do, where, and from where to go on.

    names: what the run's name says beside what it says of every run.
    """
    flags = vars(args)
    arguments = {k: str(v.absolute()) if isinstance(v, Path) else v for k, v in flags.items()}
    seed = f"seed{args.seed}"
    name = [args.dataset, args.arch, time_steps_name(args), method_name(args), seed, *names]
    values = {field.name: flags[field.name] for field in fields(Request) if field.name in flags}
    identity = {name: arguments[name] for name in names_of(args.dataset, *IDENTITY)}
    return Request(
        arguments=arguments,
        identity=identity,
        silent=frozenset(without_effect(flags_of(args.dataset), args)),
        run_name="_".join(name),
        **values,
    )
