"""A pass of training as a CUDA graph: recorded once, then replayed by one launch.

A step of a spiking network is over a thousand small kernels, and on a fast GPU launching them can
take longer than running them. A graph is launched as a whole. It repeats the recorded kernels on
the recorded memory: inputs are copied to where the recording read them, and gradients appear where
it wrote them. That memory, a whole pass's, stays reserved for the graph.

Source: PyTorch's documentation, "CUDA Graphs".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from model.baseline.checkpointed import unchanged_buffers

WARM_UP = 3  # runs before the recording, in which libraries choose their kernels
Replay = Callable[[], None]


class GraphedPass:
    """`run(inputs, labels)`, which fills the gradients of `net`, as a graph for `size` samples.

    The first call with so many samples records; others, such as an epoch's last batch, run as they
    are. Gradients must be None before a call: a replay would replace them. Buffers move once per
    call, whatever recording takes. What `run` returns is overwritten by the next call.

    record: how a function without arguments becomes (replay, its result). Options of a call are
    handed to `run`; those of the recording hold for every replay.
    """

    def __init__(
        self,
        run: Callable[..., Any],
        net: nn.Module,
        size: int,
        record: Callable[[Callable[[], Any]], tuple[Replay, Any]] | None = None,
    ):
        self.run, self.net, self.size = run, net, size
        self.record = record or record_on_gpu
        self.replay: Replay | None = None
        self.inputs = self.labels = self.result = None
        self.options: dict[str, Any] = {}
        self.gradients: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, inputs: Tensor, labels: Tensor, **options: Any) -> Any:
        if len(labels) != self.size:
            return self.run(inputs, labels, **options)
        if self.replay is None:
            self._record(inputs, labels, options)
        assert options == self.options
        self.inputs.copy_(inputs)
        self.labels.copy_(labels)
        self.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return self.result

    def _record(self, inputs: Tensor, labels: Tensor, options: dict[str, Any]) -> None:
        self.inputs, self.labels, self.options = inputs.clone(), labels.clone(), options
        with unchanged_buffers(self.net):
            self.replay, self.result = self.record(self._run_from_no_gradient)
        parameters = self.net.parameters()
        self.gradients = [(p, p.grad) for p in parameters if p.grad is not None]

    def _run_from_no_gradient(self) -> Any:
        self.net.zero_grad(set_to_none=True)
        return self.run(self.inputs, self.labels, **self.options)


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
