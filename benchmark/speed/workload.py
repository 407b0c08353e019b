"""The training steps that are measured: of which network on which batch, and taken in which way.

Shapes: T time steps, B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.reference.two_stage import BLOCKS, TwoStageNet
from experiment.flag.amp import PRECISIONS
from model import METHODS, Execution, build_model

SEED = 60
SPARSE = "_sparse"  # behind a method: convolutions of spikes skip silent inputs, on a CPU


@dataclass(frozen=True)
class Workload:
    """The step that is measured: a static image (B, C, size, size), K classes, T time steps."""

    arch: str
    T: int
    batch: int
    branches: bool = True
    size: int = 32
    in_channels: int = 3
    num_classes: int = 10
    width: int | None = None
    device: str = "cpu"

    def in_words(self) -> str:
        """What a table says of it."""
        width = "published width" if self.width is None else f"width {self.width}"
        of_channels = "" if self.in_channels == 3 else f" of {self.in_channels} channels"
        pixels = f"{self.size}x{self.size} pixels{of_channels}"
        return f"{self.arch}, {width}, {pixels}, T = {self.T}, B = {self.batch}"

    def random_batch(self, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
        """Images (B, C, size, size) and labels (B,) on the device."""
        shape = (self.batch, self.in_channels, self.size, self.size)
        images = torch.randn(shape, device=self.device).contiguous(memory_format=layout)
        return images, torch.randint(self.num_classes, (self.batch,), device=self.device)


class Dtypes(NamedTuple):
    """Of convolutions: those of counts of spikes, forward; the backward of all spiking layers'; and
    all others, which read images, currents or, in branches, rates."""

    counts: torch.dtype = torch.float32
    backward: torch.dtype = torch.float32
    others: torch.dtype = torch.float32


DTYPES = {  # by amp
    amp: Dtypes(own.forward or torch.float32, own.backward or torch.float32)
    for amp, own in PRECISIONS.items()
} | {"bf16": Dtypes(*[torch.bfloat16] * 3)}


@dataclass(frozen=True)
class Variant:
    """One way to take the step.

    kind: "two_stage" (spike stage, then rate stage: the published way), "project" (this project's)
        or "floor" (the network's convolutions alone, those of the branches included).
    method: of METHODS, for this project's; None is esd or rate, as the workload has branches.
    amp: of PRECISIONS; "bf16" is autocast's.
    backend, sparse: how it is computed, see `model.Execution`.
    graph: whether the step is replayed as a CUDA graph; on a CPU by its stand-in, which takes no
        less time.
    """

    text: str
    kind: str = "project"
    method: str | None = None
    amp: str = "none"
    channels_last: bool = True
    backend: str = "auto"
    sparse: bool = False
    graph: bool = False

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


COMPILED = Variant("one pass, compiled", backend="compiled")
SPARSE_COMPILED = replace(COMPILED, text="one pass, sparse, compiled", sparse=True)
VARIANTS = {
    "two_stage": Variant("literal two-stage", "two_stage", channels_last=False),
    "two_stage_channels_last": Variant("two-stage, channels_last", "two_stage"),
    "two_stage_bf16": Variant("two-stage, bf16", "two_stage", amp="bf16"),
    "bptt": Variant("BPTT (no branches)", method="bptt"),
    "one_pass": Variant("one pass"),
    "one_pass_compiled": COMPILED,
    "one_pass_sparse": Variant("one pass, sparse", sparse=True),
    "one_pass_sparse_compiled": SPARSE_COMPILED,
    "one_pass_bf16_backward": Variant("one pass, bf16 backward", amp="bf16-backward"),
    "one_pass_sparse_compiled_bf16_backward": replace(
        SPARSE_COMPILED, text="one pass, sparse, compiled, bf16 backward", amp="bf16-backward"
    ),
    "one_pass_fp16": Variant("one pass, fp16", amp="fp16"),
    "one_pass_bf16": Variant("one pass, bf16", amp="bf16"),
    "one_pass_bf16_compiled": replace(COMPILED, text="one pass, bf16, compiled", amp="bf16"),
    "one_pass_reference": Variant("one pass, plain PyTorch", backend="reference"),
    "floor": Variant("floor: convolutions alone", "floor"),
    "floor_bf16_backward": Variant("floor, bf16 backward", "floor", amp="bf16-backward"),
    "floor_fp16": Variant("floor in fp16", "floor", amp="fp16"),
    "floor_bf16": Variant("floor in bf16", "floor", amp="bf16"),
}
FLOORS = {own.amp: name for name, own in VARIANTS.items() if own.kind == "floor"}
GRAPHED = (
    "two_stage_channels_last",
    "bptt",
    "one_pass",
    "one_pass_bf16_backward",
    "one_pass_fp16",
    "one_pass_bf16",
)
for _name in GRAPHED:
    _eager = VARIANTS[_name]
    VARIANTS[f"{_name}_graph"] = replace(_eager, text=f"{_eager.text}, graph", graph=True)

METHOD_VARIANTS = {name: Variant(name, method=name) for name in METHODS} | {
    f"{name}{SPARSE}": Variant(f"{name}{SPARSE}", method=name, sparse=True)
    for name, method in METHODS.items()
    if method.by_rates
}


def variants_for(arch: str, names: Sequence[str], device: str) -> list[str]:
    """Those of the names that know this network; the two-stage step knows the paper's own alone.

    The others are named in a line. Raises: ValueError if that leaves none, or for a graph on a CPU.
    """
    graphs = [name for name in names if VARIANTS[name].graph]
    if graphs and device == "cpu":
        raise ValueError(f"{', '.join(graphs)}: a CUDA graph needs --device cuda")
    known = [name for name in names if VARIANTS[name].kind != "two_stage" or arch in BLOCKS]
    missing = [name for name in names if name not in known]
    if not known:
        raise ValueError(
            f"{', '.join(missing)} cannot take --arch {arch}, only {', '.join(BLOCKS)}: choose one "
            "of these, or other --contestants"
        )
    if missing:
        print(f"left out, for they cannot take --arch {arch}: {', '.join(missing)}")
    return known


def build_network(variant: Variant, workload: Workload) -> nn.Module:
    """The untrained network of a variant, on the CPU."""
    w = workload
    sizes = {"num_classes": w.num_classes, "in_channels": w.in_channels, "T": w.T, "width": w.width}
    if variant.kind == "two_stage":
        return TwoStageNet(w.arch, branches=w.branches, branch_pool=None, **sizes)
    dtypes = PRECISIONS[variant.amp].execution
    execution = Execution(variant.backend, sparse=variant.sparse, **dtypes)
    method = variant.method or ("esd" if w.branches else "rate")
    return build_model(w.arch, method=method, execution=execution, branch_pool=None, **sizes)
