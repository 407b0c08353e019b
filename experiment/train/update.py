"""The end of a step: everything that was computed is looked at, and the weights move.

Both are work for the device alone: a CUDA graph can hold them, and the host need not wait for the
backward pass. A step in which a loss or a gradient is not finite moves neither weights nor the
optimizer's state, nor does any after it; running statistics have moved in its forward pass. The
host hears of it when it has launched the next one; on a CPU, where nothing runs ahead, at once.

Source: the skipped steps of mixed-precision training, arXiv 1710.03740, which fused optimizers
know as `found_inf`; clipping, arXiv 1211.5063.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_
from torch.optim import Optimizer

from experiment.train.failure import NonFiniteError
from model.distillation import DistillationLoss
from util.process.distributed import Group


class Update:
    """`update(loss)` moves the weights of a network by their gradients, as the optimizer says.

    found: (), 1 from the first step on in which something was not finite, in any process.
    clip_norm: what the norm of the gradient, of all parameters together, is scaled down to where it
        is larger; None: it stays as it is.
    runs_ahead: whether the host hears of a step while the next one runs; None: as the device does.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        group: Group,
        *,
        clip_norm: float | None = None,
        runs_ahead: bool | None = None,
    ):
        self.parameters = dict(net.named_parameters())
        self.optimizer, self.group, self.clip_norm = optimizer, group, clip_norm
        on_gpu = group.device.type == "cuda"
        self.runs_ahead = on_gpu if runs_ahead is None else runs_ahead
        self.found = torch.zeros((), device=group.device)
        make_skippable(optimizer)
        self.terms: list[str] = []  # what the values of the report are
        self.report: Tensor | None = None  # (terms,), of the first step that was not finite
        self.heard: Verdict | None = None  # on the newest step, not yet read
        # Tensors, so that a recorded step follows the schedule; on a GPU the kernels read fp32.
        dtype = torch.float32 if on_gpu else torch.float64
        self.rates = [
            torch.zeros((), dtype=dtype, device=group.device) for _ in optimizer.param_groups
        ]
        self.followed: list[float] = []  # the learning rates that these hold
        self.follow_schedule()

    def follow_schedule(self, factor: float = 1.0) -> None:
        """Take over the learning rates that a schedule has set, times a factor for this step."""
        wanted = [group["lr"] * factor for group in self.optimizer.param_groups]
        if wanted != self.followed:
            for rate, value in zip(self.rates, wanted, strict=True):
                rate.fill_(value)
            self.followed = wanted

    def __call__(self, loss: DistillationLoss) -> None:
        """End a step whose gradients are there; nothing is copied to the host."""
        norm = self._look(loss)
        if self.clip_norm is not None:
            clip_grads_with_norm_(self.parameters.values(), self.clip_norm, norm)
        self.optimizer.found_inf = self.found
        groups = self.optimizer.param_groups
        scheduled = [group["lr"] for group in groups]  # numbers, in which the schedule computes
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate
        try:
            self.optimizer.step()
        finally:
            for group, rate in zip(groups, scheduled, strict=True):
                group["lr"] = rate

    def _look(self, loss: DistillationLoss) -> Tensor:
        """Note whether all is finite; returns the norm of the gradient."""
        gradients = {}
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                parameter.grad = gradients[name] = laid_out_like(parameter, parameter.grad)
        # Not their largest values, for which PyTorch takes 17 times as long on a CPU: both are not
        # finite where a value is not, and norms overflow some way before.
        norms = torch.stack(torch._foreach_norm(list(gradients.values())))
        size = torch.linalg.vector_norm(norms)
        terms = torch.stack([loss.hard, loss.soft, loss.total])
        report = torch.cat([terms, norms, size[None]])
        if self.report is None:
            self.terms = ["hard loss", "soft loss", "total loss"]
            self.terms += [f"gradient of {name}" for name in gradients] + ["norm of the gradient"]
            self.report = torch.zeros_like(report)
        bad = (~torch.isfinite(loss.total + size)).to(self.found.dtype)
        self.report.copy_(self.report.where(self.found > 0, report))
        self.found.copy_(torch.maximum(self.found, self.group.largest(bad)))
        return size

    def look_back(self, place: str, number: int) -> None:
        """NonFiniteError in every process if the step before the newest was not finite.

        Where nothing runs ahead, if the newest was not. place, number: of the newest, for a person
        and among those of its epoch.
        """
        before, self.heard = self.heard, Verdict.on(self.found, place, number)
        if before is not None:
            self._refuse(before)
        if not self.runs_ahead:
            self.settle()

    def settle(self) -> None:
        """Wait for the newest step. Raises: NonFiniteError, as `look_back`."""
        if self.heard is not None:
            self._refuse(self.heard)

    def _refuse(self, verdict: Verdict) -> None:
        if not verdict.is_bad():
            return
        finite = self.report.isfinite().tolist()
        bad = [term for term, is_finite in zip(self.terms, finite, strict=True) if not is_finite]
        what = f"the {bad[0]} is not finite" if bad else "another process found a non-finite value"
        others = f" (nor are {len(bad) - 1} other terms)" if len(bad) > 1 else ""
        raise NonFiniteError(
            f"{verdict.place}: {what}{others}; the step was not taken, the weights are untouched: "
            "try a lower --lr",
            step=verdict.number,
        )

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """In here nothing moves, as after a step that was not finite."""
        found = self.found.clone()
        self.found.fill_(1)
        try:
            yield
        finally:
            self.found.copy_(found)


def make_skippable(optimizer: Optimizer) -> None:
    """Have the steps of SGD or Adam change nothing while their `found_inf` is 1, also the first.

    Fused, an optimizer decides that on the device. Of its state, which may come from a checkpoint
    of a step that was not fused, SGD's momentum would be uninitialised memory after such a first
    step, and Adam's count of steps has to be where the weights are.
    """
    for group in optimizer.param_groups:
        group["fused"] = True
        if "capturable" in group:
            group["capturable"] = True
        for parameter in group["params"]:
            own = optimizer.state[parameter]
            if "momentum" in group and own.get("momentum_buffer") is None:
                own["momentum_buffer"] = torch.zeros_like(parameter)
            if "step" in own:
                own["step"] = own["step"].to(parameter.device)
            for name, value in own.items():
                if value.shape == parameter.shape:
                    own[name] = laid_out_like(parameter, value)


def laid_out_like(parameter: Tensor, values: Tensor) -> Tensor:
    """The values with the strides of their parameter: a GPU's fused kernels compare them.

    A gradient's may differ where a size is 1, as in the weights of 1x1 convolutions, and mean the
    same; then nothing is copied.
    """
    if values.stride() == parameter.stride():
        return values
    pairs = zip(parameter.shape, parameter.stride(), values.stride(), strict=True)
    if all(size == 1 or own == other for size, own, other in pairs):
        return values.as_strided(parameter.shape, parameter.stride())
    return torch.empty_like(parameter).copy_(values)


class Verdict(NamedTuple):
    """What was `found` when a step ended, on its way to the host."""

    found: Tensor
    arrival: torch.cuda.Event | None
    place: str
    number: int

    @classmethod
    def on(cls, found: Tensor, place: str, number: int) -> Verdict:
        if not found.is_cuda:
            return cls(found.clone(), None, place, number)
        found = found.to("cpu", non_blocking=True)
        arrival = torch.cuda.Event()
        arrival.record()
        return cls(found, arrival, place, number)

    def is_bad(self) -> bool:
        if self.arrival is not None:
            self.arrival.synchronize()
        return bool(self.found)
