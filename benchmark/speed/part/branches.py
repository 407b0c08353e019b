"""The ANN branches alone, forward and backward, in several ways: which should training choose?

As they train, in channels_last layout; in contiguous layout; through torch.compile. And of them the
depthwise convolutions alone in both layouts, since libraries differ most there. Inputs are random
rates, which want a gradient, as in a step. Times are the device's alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.speed.census import layers_seen
from benchmark.speed.part.finding import Finding, Line, reason
from benchmark.speed.part.launch import launched_seconds
from benchmark.speed.part.setting import Setting, as_the_mains_do
from benchmark.speed.workload import VARIANTS, build_network

LAST, PLAIN = torch.channels_last, torch.contiguous_format
BRANCHES, DEPTHWISE = "branches", "their depthwise convolutions"


class Way(NamedTuple):
    """what: BRANCHES or DEPTHWISE; low: under autocast to bf16, else as --tf32 lets them."""

    what: str
    layout: torch.memory_format = LAST
    low: bool = False
    compiled: bool = False


WAYS = (  # by worth; compiling, which chooses layouts by itself, takes the longest
    Way(BRANCHES),
    Way(BRANCHES, PLAIN),
    Way(DEPTHWISE),
    Way(DEPTHWISE, PLAIN),
    Way(BRANCHES, low=True),
    Way(BRANCHES, PLAIN, low=True),
    Way(BRANCHES, compiled=True),
)


def find(setting: Setting) -> Iterator[Finding]:
    """A row per way."""
    as_the_mains_do()
    workload = setting.workload(setting.size.T)
    net = build_network(VARIANTS["one_pass"], workload)
    shapes = {s.module: s.source for s in layers_seen(net, workload) if s.in_branch}
    net.to(setting.device)
    cases = {
        BRANCHES: [(b, shapes[b.blocks[0].depthwise1]) for b in net.branches],
        DEPTHWISE: [(m, s) for m, s in shapes.items() if getattr(m, "groups", 1) > 1],
    }
    numbers = ", ".join(f"{len(own)} {what}" for what, own in cases.items())
    yield Line(f"{workload.arch}, B = {workload.batch}: {numbers}")
    for way in WAYS:
        try:
            own = Modules(way, cases[way.what], setting)
            both = launched_seconds(own.forward_and_backward, setting.device)
            forward = launched_seconds(own.forward, setting.device)
        except Exception as error:  # of a compiler, say: the other ways may do
            yield Line(f"{way}: {reason(error)}", ok=False)
            continue
        yield {
            "what": way.what,
            "layout": "channels_last" if way.layout is LAST else "contiguous",
            "precision": "bf16" if way.low else "TF32" if setting.on_gpu else "fp32",
            "through": "torch.compile" if way.compiled else "PyTorch",
            "forward, ms": 1e3 * forward,
            "forward and backward, ms": 1e3 * both,
        }


class Modules:
    """What runs in a way: modules, each on maps (C, H, W) of its own for every sample."""

    def __init__(self, way: Way, cases: list[tuple[nn.Module, tuple[int, ...]]], setting: Setting):
        self.way, self.device = way, setting.device
        self.modules = [module.to(memory_format=way.layout).train() for module, _ in cases]
        if way.compiled:
            backend = "inductor" if setting.on_gpu else "aot_eager"  # in little without a compiler
            self.modules = [torch.compile(m, backend=backend, dynamic=False) for m in self.modules]
        batch = setting.size.batch
        self.inputs = [
            torch.rand(batch, *shape, device=self.device)
            .contiguous(memory_format=way.layout)
            .requires_grad_()
            for _, shape in cases
        ]
        parameters = [p for module in self.modules for p in module.parameters()]
        self.wanted = [*self.inputs, *parameters]
        self.gradients = [torch.rand_like(out) for out in self.forward()]

    def forward(self) -> list[Tensor]:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.way.low):
            return [m(x) for m, x in zip(self.modules, self.inputs, strict=True)]

    def forward_and_backward(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.forward(), self.wanted, self.gradients)
