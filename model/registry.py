"""The networks and the teachers by name: `build_model(arch, ...)`, `teacher_named(name)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from model.abc_model import RateModel, check_count
from model.baseline import teacher
from model.branch_gradient import BRANCH_GRADIENTS
from model.distillation import RELIABLE, Teacher
from model.functional import Neuron
from model.kernel import DEFAULT_EXECUTION, Execution
from model.method import METHODS
from model.preact_resnet import PreActResNet
from model.resnet import ResNet
from model.zoo.ms_resnet import MSResNet
from model.zoo.sew_resnet import SEWResNet
from model.zoo.vgg import VGG

DEPTHS18, DEPTHS34 = (2, 2, 2, 2), (3, 4, 6, 3)
STEMS = ("published", "small")


class Architecture(NamedTuple):
    """A row of MODELS.

    network: takes the width, and by keyword what `RateModel` takes and the options.
    width: channels of the stem as published.
    options: further arguments of network.
    branch_pool: the published pooling window of the branches; None is the mean over the map.
    large_stem: whether the published stem shrinks the image, which is meant for 224 pixels.
    """

    network: Callable[..., RateModel]
    width: int
    options: Mapping[str, Any]
    branch_pool: int | None = None
    large_stem: bool = False


MODELS = {
    "resnet18": Architecture(ResNet, 64, {"depths": DEPTHS18}, 4),
    "resnet19": Architecture(ResNet, 128, {"depths": (3, 3, 2), "hidden": True}),
    "preact_resnet18": Architecture(PreActResNet, 64, {"depths": DEPTHS18}, 4, large_stem=True),
    "preact_resnet34": Architecture(PreActResNet, 64, {"depths": DEPTHS34}, 4, large_stem=True),
    "vgg11": Architecture(VGG, 64, {"pooled": 1}),
    "vggsnn": Architecture(VGG, 64, {"pooled": 3}),
    "sew_resnet18": Architecture(SEWResNet, 64, {"depths": DEPTHS18}, large_stem=True),
    "sew_resnet34": Architecture(SEWResNet, 64, {"depths": DEPTHS34}, large_stem=True),
    "ms_resnet18": Architecture(MSResNet, 64, {"depths": DEPTHS18}, large_stem=True),
    "ms_resnet34": Architecture(MSResNet, 64, {"depths": DEPTHS34}, large_stem=True),
}

TEACHERS = {
    "reliable": RELIABLE,
    "soft": teacher.SOFT,
    "consensus": teacher.CONSENSUS,
    "all": teacher.ALL,
    "final": teacher.FINAL,
    "best": teacher.BEST,
    "label_smoothing": teacher.LABEL_SMOOTHING,
    "ema": teacher.EMA,
}


def build_model(
    arch: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    T: int,
    decay: float = 0.2,
    thresh: float = 1.0,
    v_reset: float | None = None,
    detach_reset: bool = True,
    branch_pool: int | str | None = "default",
    branch_gradient: str = "joined",
    method: str = "esd",
    width: int | None = None,
    stem: str = "published",
    execution: Execution = DEFAULT_EXECUTION,
) -> RateModel:
    """Build a spiking network with fresh weights.

    Args:
        arch: a key of MODELS.
        num_classes, in_channels: K and C.
        T: time steps, >= 1.
        decay, thresh, v_reset, detach_reset: the LIF neurons' constants, see `functional.Neuron`.
        branch_pool: side of the branches' pooling window in pixels, None for global average
            pooling, "default" for what was published.
        branch_gradient: one of BRANCH_GRADIENTS, what a branch may do to the stage that it reads.
        method: one of METHODS.
        width: channels of the stem; None is what was published.
        stem: "published", or "small": where the published one shrinks images of 224 pixels, a 3x3
            convolution with stride 1 and no pooling, for images of some 32 to 64 pixels.
        execution: how it is computed, see `kernel.Execution`.
    Raises: ValueError that names the value and what was expected.
    """
    _refuse_unknown("arch", arch, MODELS)
    _refuse_unknown("method", method, METHODS)
    _refuse_unknown("stem", stem, STEMS)
    _refuse_unknown("branch_gradient", branch_gradient, BRANCH_GRADIENTS)
    architecture = MODELS[arch]
    if stem == "small" and not architecture.large_stem:
        raise ValueError(f"{arch} has a small stem as published: leave stem at 'published'")
    width = architecture.width if width is None else width
    if branch_pool == "default":
        branch_pool = architecture.branch_pool
    counts = {"num_classes": num_classes, "in_channels": in_channels, "T": T, "width": width}
    counts |= {} if branch_pool is None else {"branch_pool": branch_pool}
    for name, value in counts.items():
        check_count(name, value)
    options = dict(architecture.options)
    if architecture.large_stem:
        options["small_stem"] = stem == "small"
    network = architecture.network(
        width,
        num_classes=num_classes,
        in_channels=in_channels,
        T=T,
        neuron=_checked_neuron(decay, thresh, v_reset, detach_reset),
        branch_pool=branch_pool,
        branch_gradient=branch_gradient,
        method=method,
        execution=execution.resolved(),
        **options,
    )
    if network.method.prepare is not None:
        network.method.prepare(network)
    return network


def teacher_named(name: str) -> Teacher:
    """A row of TEACHERS. Raises: ValueError for a name that is not among them."""
    _refuse_unknown("teacher", name, TEACHERS)
    return TEACHERS[name]


def _refuse_unknown(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}: choose one of {', '.join(known)}")


def _checked_neuron(
    decay: float, thresh: float, v_reset: float | None, detach_reset: bool
) -> Neuron:
    numbers = {"decay": decay, "thresh": thresh} | ({} if v_reset is None else {"v_reset": v_reset})
    for name, value in numbers.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{name} must be a number, got {value!r}")
    if not isinstance(detach_reset, bool):
        raise ValueError(f"detach_reset must be True or False, got {detach_reset!r}")
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must lie in [0, 1], got {decay}")
    if not 0 < thresh < float("inf"):
        raise ValueError(f"thresh must be a finite number > 0, got {thresh}")
    if v_reset is not None and not -float("inf") < v_reset < thresh:
        raise ValueError(f"v_reset must be None or finite and below thresh {thresh}, got {v_reset}")
    return Neuron(decay, thresh, v_reset, detach_reset)
