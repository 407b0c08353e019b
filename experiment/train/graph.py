"""A pass of training as a CUDA graph: recorded once, then replayed by one launch.

A step of a spiking network is over a thousand small kernels, and on a fast GPU launching them can
take longer than running them. A graph is launched as a whole. It repeats the recorded kernels on
the recorded memory: inputs are copied to where the recording read them, and gradients appear where
it wrote them. That memory, a whole pass's, stays reserved for the graph.

Source: PyTorch's documentation, "CUDA Graphs".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from experiment.train.accumulated import Backward
from experiment.train.step import Outcome, Part, StepContext, differentiate
from model.baseline.checkpointed import unchanged_buffers

WARM_UP = 3  # runs before the recording, in which libraries choose their kernels
Run = Callable[..., Any]
Replay = Callable[[], None]
Recording = Callable[[Callable[[], Any]], tuple[Replay, Any]]


class GraphedPass:
    """`run(inputs, labels, ...)`, which fills the gradients of `net`, as a graph for one `size`.

    The first call with `size` samples records; others, such as an epoch's last batch, run as they
    are. Gradients must be None before a call: a replay would replace them. Buffers move once per
    call, whatever recording takes. What `run` returns is overwritten by the next call.

    run: of tensors alone, which a replay reads anew. record: how a function without arguments
    becomes (replay, its result).
    """

    def __init__(self, run: Run, net: nn.Module, size: int, record: Recording | None = None):
        self.run, self.net, self.size = run, net, size
        self.record = record or record_on_gpu
        self.replay: Replay | None = None
        self.tensors: tuple[Tensor, ...] = ()
        self.result: Any = None
        self.gradients: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, inputs: Tensor, labels: Tensor, *others: Tensor) -> Any:
        tensors = (inputs, labels, *others)
        if len(labels) != self.size:
            return self.run(*tensors)
        if self.replay is None:
            self._record(tensors)
        for recorded, given in zip(self.tensors, tensors, strict=True):
            recorded.copy_(given)
        self.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return self.result

    def _record(self, tensors: tuple[Tensor, ...]) -> None:
        self.tensors = tuple(tensor.clone() for tensor in tensors)
        with unchanged_buffers(self.net):
            self.replay, self.result = self.record(self._run_from_no_gradient)
        parameters = self.net.parameters()
        self.gradients = [(p, p.grad) for p in parameters if p.grad is not None]

    def _run_from_no_gradient(self) -> Any:
        self.net.zero_grad(set_to_none=True)
        return self.run(*self.tensors)


def graphed_pass(context: StepContext, size: int, record: Recording | None = None) -> Backward:
    """A `Backward` whose full batches, of `size` images, are replayed from a CUDA graph.

    The graph holds the one pass of a step in one process. record: as of `GraphedPass`.
    """
    net = context.state.net
    assert context.group.world_size == 1 and not (net.method.online or net.method.recomputes)
    graphed = GraphedPass(partial(differentiate, context, weight=1 / net.T), net, size, record)

    def replayed(
        context: StepContext, part: Part, progress: Tensor, *, share: float, exchange: bool
    ) -> Outcome:
        assert share == 1
        return graphed(*part, progress)

    return replayed


def record_on_gpu(run: Callable[[], Any]) -> tuple[Replay, Any]:
    """Warm up, then record; returns what replays it and the tensors that a replay fills."""
    stream = _recording_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Thread-local: the thread that pins the loader's memory may go on while this one records.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        result = run()
    return graph.replay, result


@cache
def _recording_stream() -> torch.cuda.Stream:
    """One for all recordings: libraries keep memory for every stream that they have seen."""
    return torch.cuda.Stream()
