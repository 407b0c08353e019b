"""The processes of one training run, as torchrun starts them; without torchrun there is one.

Every function also works for a single process, so no caller asks whether it is one of many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Group(NamedTuple):
    """This process among all: rank 0 ... world_size - 1, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that writes files and prints."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, on the device of `values`."""
        if self.world_size == 1:
            return values
        total = values.detach().to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(values.device)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.world_size == 1 else bool(self.sum(torch.tensor(int(flag))).item())

    def share(self, value: Any) -> Any:
        """The first process's value (plain types), in all of them."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


def share_of_batch(batch_size: int, group: Group) -> int:
    """Samples of one process in a batch of `batch_size` over all.

    Raises: ValueError if they do not divide it evenly.
    """
    if batch_size % group.world_size:
        raise ValueError(
            f"batch size {batch_size} is not a multiple of the {group.world_size} processes: "
            "choose one that is"
        )
    return batch_size // group.world_size


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
        return torch.device("cpu")
    index = local_rank if device.index is None else device.index
    count = torch.cuda.device_count()
    if not torch.cuda.is_available() or index >= count:
        raise ValueError(f"device cuda:{index} is not there: this machine shows {count} of them")
    return torch.device("cuda", index)


@contextmanager
def process_group(device_name: str | None, *, timeout_minutes: float = 10) -> Iterator[Group]:
    """Join the processes that torchrun started, and leave them at the end.

    The backend is nccl for CUDA devices and gloo for CPUs; the device follows LOCAL_RANK.
    """
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    device = choose_device(device_name, int(os.environ.get("LOCAL_RANK", 0)))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Group(0, 1, device)
        return
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=timeout_minutes)
    )
    try:
        yield Group(dist.get_rank(), world_size, device)
    finally:
        dist.destroy_process_group()
