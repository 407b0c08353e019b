"""Where a process runs: its place among those that torchrun started, and its device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch

# What torchrun tells each process. RANK and WORLD_SIZE are what makes a process one of many:
# clusters export the address alone, too.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """Where torchrun put this process: among all, and among those of its machine."""

    rank: int
    world_size: int
    local_rank: int


def place_from_environment(environment: Mapping[str, str] = os.environ) -> Place:
    """What the environment says; without RANK and WORLD_SIZE, or with a world of 1, one process.

    Raises: ValueError for a half-set environment or values that cannot be.
    """
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return Place(0, 1, 0)
    if environment.get("WORLD_SIZE") == "1" and environment.get("RANK", "0") == "0":
        return Place(0, 1, _whole_number("LOCAL_RANK", environment.get("LOCAL_RANK", "0")))
    missing = [name for name in VARIABLES if not environment.get(name)]
    if missing:
        there = [name for name in VARIABLES if name not in missing]
        raise ValueError(
            f"the environment has {', '.join(there)} but not {', '.join(missing)}: start with "
            "torchrun, which sets them all, or unset RANK and WORLD_SIZE for a single process"
        )
    rank, world_size, local_rank, _, _ = (
        value if name == "MASTER_ADDR" else _whole_number(name, value)
        for name, value in ((name, environment[name]) for name in VARIABLES)
    )
    if not rank < world_size:
        raise ValueError(f"RANK {rank} of WORLD_SIZE {world_size}: expected 0 to {world_size - 1}")
    return Place(rank, world_size, local_rank)


def _whole_number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"environment variable {name} is {text!r}: expected a whole number")
    return int(text)


def choose_device(name: str | None, local_rank: int = 0) -> torch.device:
    """The device called `name`, or CUDA if there is one and else the CPU.

    Raises: ValueError for a name that torch does not know or a device that is not there.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}: expected cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported: expected cpu, cuda or cuda:N")
    if device.type == "cpu":
        if device.index is not None:
            raise ValueError(f"device {name!r}: a CPU has no number, expected cpu, cuda or cuda:N")
        return device
    index = local_rank if device.index is None else device.index
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        advice = "start one process for each (--nproc_per_node)" if local_rank else "choose another"
        raise ValueError(
            f"device cuda:{index} is not there: this machine shows {count} of them; {advice}"
        )
    return torch.device("cuda", index)
