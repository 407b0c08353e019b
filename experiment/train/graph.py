"""A training step as a CUDA graph: recorded once, then replayed by one launch.

A step of a spiking network is hundreds of small kernels, and on a fast GPU launching them can take
longer than running them. A graph is launched as a whole. It repeats the recorded kernels on the
recorded memory: inputs are copied to where the recording read them, and results appear where it
wrote them. That memory, a whole step's, stays reserved for the graph.

Source: PyTorch's documentation, "CUDA Graphs".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from experiment.train.step import Move, StepContext, move_weights
from experiment.train.update import Update
from model.baseline.checkpointed import unchanged_buffers

WARM_UP = 3  # runs before the recording, in which libraries choose their kernels
Run = Callable[..., Any]
Replay = Callable[[], None]
Recording = Callable[[Callable[[], Any]], tuple[Replay, Any]]


class Recorded(NamedTuple):
    """tensors: what a replay reads; result: what it fills."""

    tensors: tuple[Tensor, ...]
    replay: Replay
    result: Any


class GraphedPass:
    """`run(inputs, labels, ...)` for batches of one `size`, as a graph per shape of the inputs.

    Other batches, such as an epoch's last, run as they are. What a call returns may be overwritten
    by the next one.

    run: of tensors, which a replay reads anew, and of `fixed` numbers such as T, with a graph for
    each. unchanged: keeps whatever the runs change before the recording, and in it. record: how a
    function without arguments becomes (replay, its result).
    """

    def __init__(
        self,
        run: Run,
        size: int,
        *,
        unchanged: Callable[[], AbstractContextManager] = nullcontext,
        record: Recording | None = None,
    ):
        self.run, self.size, self.unchanged = run, size, unchanged
        # Their results outlive a replay; for what else they take, graphs share their memory.
        self.record = record or partial(record_on_gpu, pool=torch.cuda.graph_pool_handle())
        self.recordings: dict[tuple, Recorded] = {}

    def __call__(self, inputs: Tensor, labels: Tensor, *others: Tensor, **fixed: int) -> Any:
        tensors = (inputs, labels, *others)
        if len(labels) != self.size:
            return self.run(*tensors, **fixed)
        kind = (inputs.shape, *sorted(fixed.items()))
        if kind not in self.recordings:
            own = tuple(tensor.clone() for tensor in tensors)
            with self.unchanged():
                replay, result = self.record(partial(self.run, *own, **fixed))
            self.recordings[kind] = Recorded(own, replay, result)
        recording = self.recordings[kind]
        for recorded, given in zip(recording.tensors, tensors, strict=True):
            recorded.copy_(given)
        recording.replay()
        return recording.result


def graphed_move(context: StepContext, size: int, record: Recording | None = None) -> Move:
    """`step.move_weights` whose full batches, of `size` images, are replayed from a CUDA graph.

    For steps of one process. record: as of `GraphedPass`.
    """
    method = context.state.net.method
    assert context.group.world_size == 1 and not (method.online or method.recomputes)
    unchanged = partial(nothing_moved, context.state.net, context.update)
    return GraphedPass(partial(move_weights, context), size, unchanged=unchanged, record=record)


@contextmanager
def nothing_moved(net: nn.Module, update: Update) -> Iterator[None]:
    """On leaving, a network and its optimizer are as they were, whatever was done in here."""
    with update.suspended(), unchanged_buffers(net):
        yield


def record_on_gpu(run: Callable[[], Any], *, pool: Any = None) -> tuple[Replay, Any]:
    """Warm up, then record; returns what replays it and the tensors that a replay fills.

    pool: memory to share with other graphs.
    Raises: ValueError for what no graph can hold.
    """
    stream = _recording_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Thread-local: the thread that pins the loader's memory may go on while this one records.
    options = {"pool": pool, "stream": stream, "capture_error_mode": "thread_local"}
    try:
        with torch.cuda.graph(graph, **options):
            result = run()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"a training step cannot be recorded here as a CUDA graph ({str(error).splitlines()[0]}"
            "): begin again with --no-cuda_graph"
        ) from error
    return graph.replay, result


@cache
def _recording_stream() -> torch.cuda.Stream:
    """One for all recordings: libraries keep memory for every stream that they have seen."""
    return torch.cuda.Stream()
