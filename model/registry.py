"""The networks by name: `build_model(arch, ...)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from model.abc_model import RateModel
from model.functional import Neuron
from model.kernel import Execution
from model.method import METHODS
from model.preact_resnet import PreActResNet
from model.resnet import ResNet

DEFAULT_EXECUTION = Execution()


class Architecture(NamedTuple):
    """A row of MODELS.

    width: channels of the first stage in the paper; stage i has width * 2^i.
    depths: blocks of each stage.
    branch_pool: the published pooling window of the branches; None is the mean over the map.
    hidden: whether a spiking layer of 2 * width neurons precedes the last linear one.
    """

    network: Callable[..., RateModel]
    width: int
    depths: tuple[int, ...]
    branch_pool: int | None
    hidden: bool = False


MODELS = {
    "resnet18": Architecture(ResNet, 64, (2, 2, 2, 2), 4),
    "resnet19": Architecture(ResNet, 128, (3, 3, 2), None, hidden=True),
    "preact_resnet18": Architecture(PreActResNet, 64, (2, 2, 2, 2), 4),
    "preact_resnet34": Architecture(PreActResNet, 64, (3, 4, 6, 3), 4),
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
    method: str = "esd",
    width: int | None = None,
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
        method: one of METHODS.
        width: channels of the first stage; None is the paper's.
        execution: how it is computed, see `kernel.Execution`.
    Raises: ValueError that names the value and what was expected.
    """
    if arch not in MODELS:
        raise ValueError(f"unknown arch {arch!r}: choose one of {', '.join(MODELS)}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
    architecture = MODELS[arch]
    width = architecture.width if width is None else width
    if branch_pool == "default":
        branch_pool = architecture.branch_pool
    counts = {"num_classes": num_classes, "in_channels": in_channels, "T": T, "width": width}
    if branch_pool is not None:
        counts["branch_pool"] = branch_pool
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
    return architecture.network(
        tuple(width * 2**i for i in range(len(architecture.depths))),
        architecture.depths,
        num_classes=num_classes,
        in_channels=in_channels,
        T=T,
        neuron=_checked_neuron(decay, thresh, v_reset, detach_reset),
        branch_pool=branch_pool,
        method=method,
        execution=execution.resolved(),
        **({"hidden": 2 * width} if architecture.hidden else {}),
    )


def _checked_neuron(
    decay: float, thresh: float, v_reset: float | None, detach_reset: bool
) -> Neuron:
    if not 0 <= decay <= 1:
        raise ValueError(f"decay must lie in [0, 1], got {decay}")
    if not 0 < thresh < float("inf"):
        raise ValueError(f"thresh must be a finite number > 0, got {thresh}")
    if v_reset is not None and not v_reset < thresh:
        raise ValueError(f"v_reset must be None or below thresh {thresh}, got {v_reset}")
    return Neuron(decay, thresh, v_reset, detach_reset)
