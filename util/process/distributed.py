"""The processes of one training run, as torchrun starts them; without torchrun there is one.

Every function also works for a single process, so no caller asks whether it is one of many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from traceback import clear_frames
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from util.process.place import Place, choose_device, place_from_environment
from util.process.rendezvous import store_of_attempt

Result = TypeVar("Result")


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

    def sum_each(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sum of every tensor, in one exchange of float64: exact for counts below 2^53."""
        if self.world_size == 1:
            return values
        total = self.sum(torch.cat([value.reshape(-1).double() for value in values.values()]))
        parts = total.split([value.numel() for value in values.values()])
        return {
            name: part.view_as(value).to(value.dtype)
            for (name, value), part in zip(values.items(), parts, strict=True)
        }

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, on the device of `values`."""
        return self.sum(values) / self.world_size

    def wait_for_all(self) -> None:
        """Return when every process has come here."""
        self.max(0)

    def largest(self, values: Tensor) -> Tensor:
        """The largest of each value over all processes; a tensor on a CPU is exchanged there."""
        if self.world_size == 1:
            return values
        largest = values.clone()
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest

    def max(self, number: int) -> int:
        """The largest number of any process, for which none waits for its GPU."""
        if self.world_size == 1:
            return number
        return int(self.largest(torch.tensor(number)))

    def share(self, value: Any) -> Any:
        """The first process's value (plain types and CPU tensors), in all of them."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def from_first(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises in the first process, the only one to run it, in all.

        So what is decided by looking at files is decided once. Errors that users can cause
        (ValueError, OSError) are shared; any other ends the first process.
        """
        if self.world_size == 1:
            return work()
        result = error = None
        if self.is_first:
            try:
                result = work()
            except (ValueError, OSError) as caught:
                error = caught
        result, error = self.share((result, error))
        if error is not None:
            raise error
        return result

    def copy_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's buffers (running statistics of batch norms)."""
        if self.world_size == 1:
            return
        buffers = list(module.buffers())
        for dtype in dict.fromkeys(buffer.dtype for buffer in buffers):
            alike = [buffer for buffer in buffers if buffer.dtype == dtype]
            values = torch.cat([buffer.reshape(-1) for buffer in alike])  # one exchange for all
            dist.broadcast(values, src=0)
            parts = values.split([buffer.numel() for buffer in alike])
            views = [part.view_as(buffer) for part, buffer in zip(parts, alike, strict=True)]
            torch._foreach_copy_(alike, views)


def share_of_batch(batch_size: int, group: Group, *, parts: int = 1) -> int:
    """Samples of one process in a batch of `batch_size` over all, or in one of its `parts`.

    Raises: ValueError if they do not divide it evenly.
    """
    if batch_size % (group.world_size * parts):
        times = f" times {parts} parts of each" if parts > 1 else ""
        raise ValueError(
            f"batch size {batch_size} is not a multiple of the {group.world_size} processes"
            f"{times}: choose one that is"
        )
    return batch_size // group.world_size // parts


class ProcessesLost(ConnectionError):
    """Another process is gone or stands still; the message is one sentence.

    The program should end by os._exit: this process may have exchanges under way, and torch 2.11
    deadlocks when it takes a gloo group down with those (~ProcessGroupGloo holds the interpreter's
    lock while it joins a thread that waits for it).
    """

    def __init__(self, place: Place, timeout_minutes: float, cause: BaseException):
        super().__init__(
            f"process {place.rank} of {place.world_size} lost the others: one of them ended, or "
            f"did not answer within {timeout_minutes:g} minutes ({str(cause).splitlines()[0]}); "
            "what it printed says why; go on with --resume auto"
        )


@contextmanager
def process_group(device_name: str | None, *, timeout_minutes: float = 10) -> Iterator[Group]:
    """Join the processes that torchrun started, and leave them at the end.

    Tensors on CUDA devices are exchanged by nccl, those on CPUs by gloo; the device follows
    LOCAL_RANK. A process that waits longer than `timeout_minutes` for another gives up.

    Raises: ValueError for a half-set environment or a device that is not there; ProcessesLost if
    another process ended or did not answer in time.
    """
    place = place_from_environment()
    device = choose_device(device_name, place.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if place.world_size == 1:
        yield Group(0, 1, device)
        return
    finished = False
    try:
        _join(place, device, timedelta(minutes=timeout_minutes))
        yield Group(place.rank, place.world_size, device)
        finished = True
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise ProcessesLost(place, timeout_minutes, error) from error
        raise
    finally:
        let_go(sys.exception())
        # After an error the others may be in a collective, for which NCCL would wait; then the end
        # of this process closes its connections, by which the others notice.
        lost = isinstance(sys.exception(), ProcessesLost)
        if dist.is_initialized() and not lost and (finished or device.type == "cpu"):
            dist.destroy_process_group()


def let_go(error: BaseException | None) -> None:
    """Empty the finished frames of an error, and of those that led to it.

    They hold the network's distributed wrapper, which must not be the last to let go of the group:
    torch then joins a thread of the group that waits for Python's lock, which this thread has.
    """
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _join(place: Place, device: torch.device, timeout: timedelta) -> None:
    """Make the default process group, in a store that no earlier attempt has written to."""
    store, rank, world_size = next(dist.rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    on_cuda = device.type == "cuda"
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_cuda else "gloo",
        store=store_of_attempt(store, rank, world_size, timeout),
        rank=rank,
        world_size=world_size,
        timeout=timeout,
        device_id=device if on_cuda else None,
    )
