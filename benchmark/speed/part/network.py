"""A small network against the literal two-stage training in float64, eager and as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmark.reference.recording import recording_on
from benchmark.reference.two_stage import TwoStageNet
from benchmark.speed.harness import ALP, BETA
from benchmark.speed.part.finding import Finding, Line
from benchmark.speed.part.setting import Setting
from experiment.train.graph import GraphedPass
from model import build_model
from model.distillation import SelfDistillationLoss
from util.checkpoint import from_reference

BOUND = 1e-9  # of a gradient's relative difference, in float64


def find(setting: Setting) -> Iterator[Finding]:
    """How far gradients are from two-stage training's: computed, and replayed."""
    options = {"num_classes": 5, "T": 3, "width": 8, "branch_pool": None}
    torch.manual_seed(0)
    oracle = TwoStageNet("resnet18", **options).double().to(setting.device).train()
    net = build_model("resnet18", **options).double().to(setting.device).train()
    net.load_state_dict(from_reference(oracle.state_dict()))
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64, device=setting.device)
    labels = torch.randint(5, (4,), device=setting.device)

    def gradients_of(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        net.zero_grad(set_to_none=True)
        SelfDistillationLoss(ALP, BETA)(net(images), labels).total.backward()
        return {name: p.grad for name, p in net.named_parameters()}

    SelfDistillationLoss(ALP, BETA)(oracle.train_step_logits(x), labels).total.backward()
    names = from_reference({name: name for name in oracle.state_dict()})
    gradients = {name: p.grad for name, p in oracle.named_parameters()}
    expected = {name: gradients[names[name]] for name, _ in net.named_parameters()}
    yield comparison("one pass", gradients_of(x, labels), expected)
    graphed = GraphedPass(gradients_of, len(labels), record=recording_on(setting.device))
    graphed(torch.randn_like(x), labels)  # recorded on others
    name = "its CUDA graph" if setting.on_gpu else "its stand-in for a graph"
    yield comparison(name, graphed(x, labels), expected)


def comparison(name: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> Line:
    """The largest relative difference of a parameter's gradient from the one expected."""
    errors = [(found[n] - value).norm() / value.norm() for n, value in expected.items()]
    error = float(torch.stack(errors).max())  # NaN if any is
    return Line(
        f"{name}, in float64: gradients within {error:.1e} of the two-stage step's "
        f"(bound {BOUND:g})",
        ok=error <= BOUND,
    )
