"""What `step.py` lets race: training steps of one network on one batch, and the floor under them.

Shapes: T time steps, B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.floor import ConvolutionFloor
from benchmark.reference.recording import recording_on
from benchmark.reference.two_stage import BLOCKS, TwoStageNet
from experiment.cuda_graph import GraphedPass
from model import Execution, RateModel, build_model
from model.distillation import SelfDistillationLoss
from model.rate_pair import RatePair

ALP, BETA = 1.0, 0.3  # of the CIFAR recipe; they do not change the cost
LEARNING_RATE = 1e-3  # small, so that firing rates stay what they are over the repeated steps
SEED = 60


@dataclass(frozen=True)
class Workload:
    """The step that is measured: a static image (B, C, size, size), K classes, T time steps."""

    arch: str
    T: int
    batch: int
    branches: bool
    size: int = 32
    in_channels: int = 3
    num_classes: int = 10
    width: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Variant:
    """One way to take the step.

    kind: "two_stage" (spike stage, then rate stage: the published way), "bptt", "one_pass" (this
    project's) or "floor" (the network's convolutions alone, those of the branches included).
    amp: "none", "bf16" (autocast) or "bf16-backward" (fp32 spikes, convolution backward in bf16).
    backend, sparse: how the one pass is computed, see `model.kernel.Execution`.
    graph: whether forward and backward are replayed as a CUDA graph; on a CPU by its stand-in,
    which takes no less time.
    """

    kind: str
    text: str
    amp: str = "none"
    channels_last: bool = True
    backend: str = "auto"
    sparse: bool = False
    graph: bool = False


VARIANTS = {
    "two_stage": Variant("two_stage", "literal two-stage", channels_last=False),
    "two_stage_channels_last": Variant("two_stage", "two-stage, channels_last"),
    "two_stage_bf16": Variant("two_stage", "two-stage, bf16", "bf16"),
    "bptt": Variant("bptt", "BPTT (no branches)"),
    "one_pass": Variant("one_pass", "one pass"),
    "one_pass_compiled": Variant("one_pass", "one pass, compiled", backend="compiled"),
    "one_pass_sparse": Variant("one_pass", "one pass, sparse", sparse=True),
    "one_pass_sparse_compiled": Variant(
        "one_pass", "one pass, sparse, compiled", backend="compiled", sparse=True
    ),
    "one_pass_bf16_backward": Variant("one_pass", "one pass, bf16 backward", "bf16-backward"),
    "one_pass_sparse_compiled_bf16_backward": Variant(
        "one_pass",
        "one pass, sparse, compiled, bf16 backward",
        "bf16-backward",
        backend="compiled",
        sparse=True,
    ),
    "one_pass_bf16": Variant("one_pass", "one pass, bf16", "bf16"),
    "one_pass_bf16_compiled": Variant(
        "one_pass", "one pass, bf16, compiled", "bf16", backend="compiled"
    ),
    "one_pass_reference": Variant("one_pass", "one pass, plain PyTorch", backend="reference"),
    "floor": Variant("floor", "floor: convolutions alone"),
    "floor_bf16": Variant("floor", "floor in bf16", "bf16"),
}
VARIANTS |= {
    f"{name}_graph": replace(VARIANTS[name], text=f"{VARIANTS[name].text}, graph", graph=True)
    for name in (
        "two_stage_channels_last",
        "bptt",
        "one_pass",
        "one_pass_bf16_backward",
        "one_pass_bf16",
    )
}


def contestants_for(arch: str, names: Sequence[str], device: str) -> list[str]:
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


class Contestant:
    """One variant, ready to run.

    step(): one whole training step (the floor: its convolutions).
    forward(): logits and loss alone, a scalar with its graph; None for the floor, as are
    loss(images, labels), which it calls on `batch`, the optimizer, and net, the network.
    parameters: what `forward` differentiates.
    work: (multiply-adds, bytes moved) of a step of the floor; None for the others.
    """

    def __init__(self, variant: Variant, workload: Workload):
        self.text = variant.text
        torch.manual_seed(SEED)
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        if variant.kind == "floor":
            floor = ConvolutionFloor(
                build(Variant("one_pass", ""), workload), workload, low=variant.amp == "bf16"
            )
            self.step, self.forward, self.parameters, self.net = floor.step, None, [], None
            self.loss = self.optimizer = self.batch = None
            self.work = floor.multiply_adds(), floor.bytes_moved()
            return
        net = build(variant, workload).to(workload.device).train().to(memory_format=layout)
        self.net, self.work = net, None
        self.parameters = list(net.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, LEARNING_RATE, momentum=0.9)
        self.batch = random_batch(workload, layout)
        self.loss = loss_of(net, variant, workload)
        self.forward = lambda: self.loss(*self.batch)

        def fill_gradients(images: Tensor, labels: Tensor) -> None:
            self.loss(images, labels).backward()

        if variant.graph:
            record = recording_on(workload.device, net)
            fill_gradients = GraphedPass(fill_gradients, net, workload.batch, record)

        def step() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            fill_gradients(*self.batch)
            self.optimizer.step()

        self.step: Callable[[], None] = step

    def firing_rate(self) -> float | None:
        """Spikes per neuron and time step, the mean of all neurons; of our own step alone."""
        if not isinstance(self.net, RateModel) or not self.net.method.by_rates:
            return None
        spikes, neurons = 0.0, 0

        def count(module: nn.Module, inputs: tuple, out: RatePair) -> None:
            nonlocal spikes, neurons
            spikes, neurons = spikes + float(out.rate.detach().sum()), neurons + out.rate.numel()

        handles = [m.register_forward_hook(count) for _, m in self.net.spiking_layers()]
        self.forward()
        for handle in handles:
            handle.remove()
        return spikes / neurons


def build(variant: Variant, workload: Workload) -> nn.Module:
    """The untrained network of a variant."""
    common = {
        "num_classes": workload.num_classes,
        "in_channels": workload.in_channels,
        "T": workload.T,
        "width": workload.width,
        "branch_pool": None,
    }
    if variant.kind == "two_stage":
        return TwoStageNet(workload.arch, branches=workload.branches, **common)
    method = "bptt" if variant.kind == "bptt" else "esd" if workload.branches else "rate"
    execution = Execution(
        backend=variant.backend,
        convolution_backward=torch.bfloat16 if variant.amp == "bf16-backward" else None,
        sparse=variant.sparse,
    )
    return build_model(workload.arch, method=method, execution=execution, **common)


def random_batch(workload: Workload, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    """Images (B, C, size, size) and labels (B,) on the workload's device."""
    shape = (workload.batch, workload.in_channels, workload.size, workload.size)
    images = torch.randn(shape, device=workload.device).contiguous(memory_format=layout)
    return images, torch.randint(workload.num_classes, (workload.batch,), device=workload.device)


def loss_of(
    net: nn.Module, variant: Variant, workload: Workload
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of images and labels that runs the network and returns the loss over T."""
    distillation = SelfDistillationLoss(ALP, BETA)
    run = net.train_step_logits if variant.kind == "two_stage" else net

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        low = variant.amp == "bf16"
        with torch.autocast(workload.device, torch.bfloat16) if low else nullcontext():
            heads = [logits.float() for logits in run(images)]
        if len(heads) == 1:
            return F.cross_entropy(heads[0], labels) / workload.T
        return distillation(heads, labels).total / workload.T

    return loss
