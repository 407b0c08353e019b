"""Statistics of batch norms in training, of one process or of several that share a batch.

Several processes that each hold an equal part of a batch see it as one when they average three
values per channel: with (m_p, v_p) the mean and variance in process p,

    mean = avg_p m_p,   variance = avg_p (v_p + m_p^2) - mean^2

and, in the backward pass, the means of the gradient, of its product with the normalised map, and
of the map itself (`functional.rate_batch_norm_backward`). Gradients of gamma and beta stay those
of the process: whoever averages the gradients of all parameters averages them as well.

Source: batch norm, arXiv 1502.03167; statistics over spikes, arXiv 2410.11488, section 4.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from model import functional, kernel
from model.kernel import Maps, Normalisation, NormState


class Processes(Protocol):
    """Those that share a batch; `util.process.distributed.Group` is one."""

    @property
    def world_size(self) -> int: ...

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all of them; every process must call it."""


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the parts that several processes hold of a batch, all of one size.

    Parameters and buffers are those of the batch norm that it replaces.
    """

    def __init__(self, norm: nn.BatchNorm2d, processes: Processes):
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.processes = processes
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same; gradients reach x, gamma and beta."""
        return normalise(self, x) if self.training else super().forward(x)


def synchronise(net: nn.Module, processes: Processes) -> None:
    """Make every batch norm of `net` a `SynchronisedBatchNorm2d`, in place."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, SynchronisedBatchNorm2d(child, processes))


@torch.no_grad()
def normalised(norm: nn.BatchNorm2d, values: Tensor, repeats: int) -> tuple[Maps, Normalisation]:
    """Batch norm at work on values (T or 1, B, C, ...) that each stand for `repeats` time steps.

    In training with their statistics, by which the running ones move, else with the running ones.
    Returns: the values with an affine map that is still to be applied, and what its backward takes.
    Raises: ValueError if there is one value per channel to train with.
    """
    if norm.training:
        constants = _constants_in_training(norm, values.flatten(0, 1), repeats)
    else:
        constants = functional.batch_norm_constants(
            norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
        )
    mean, inverse_std, scale, shift = constants.unbind()
    average = norm.processes.mean if isinstance(norm, SynchronisedBatchNorm2d) else None
    at_work = Normalisation(norm.weight, mean, inverse_std, norm.training, average)
    return Maps(values, scale, shift), at_work


def normalise(norm: nn.BatchNorm2d, x: Tensor, repeats: int = 1) -> Tensor:
    """norm(x) of maps (B, C, H, W) that each stand for `repeats` time steps.

    Gradients reach x, gamma and beta. Raises: as `normalised`.
    """
    if not norm.training:
        return norm(x)
    maps, at_work = normalised(norm, x.detach()[None], repeats)
    if at_work.average is not None:
        return _Normalise.apply(x, norm.weight, norm.bias, maps, at_work)
    # Not by F.batch_norm, which would count the values without their repeats.
    fast = torch.backends.cudnn.enabled
    return torch.batch_norm(x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps, fast)


def _constants_in_training(norm: nn.BatchNorm2d, maps: Tensor, repeats: int) -> Tensor:
    """`kernel.norm_constants` of maps (N, C, ...), over all processes that share the batch.

    A map that stands for several time steps counts as often in the unbiased variance, which is that
    of T*B*H*W values. Once per step, from the spikes: the published rate pass moves nothing.
    """
    processes = norm.processes if isinstance(norm, SynchronisedBatchNorm2d) else None
    count = maps[:, 0].numel() * repeats * (1 if processes is None else processes.world_size)
    if count < 2:
        raise ValueError(
            "batch norm needs more than one value per channel to train, got one: use a larger "
            "batch, a larger image or more time steps"
        )
    state = NormState(
        gamma=norm.weight,
        beta=norm.bias,
        running_mean=norm.running_mean,
        running_var=norm.running_var,
        batches=norm.num_batches_tracked,
        eps=norm.eps,
        momentum=norm.momentum,
    )
    if processes is None:
        return kernel.norm_constants(maps, state, count)
    return kernel.settled(*_of_all(kernel.batch_statistics(maps), processes), state, count)


def _of_all(statistics: Tensor, processes: Processes) -> Tensor:
    """Mean and variance (2, C) over all processes, in float64: a difference of squares cancels."""
    mean, variance = statistics.double()
    mean, square = processes.mean(torch.stack([mean, variance + mean.square()]))
    return torch.stack([mean, (square - mean.square()).clamp(min=0)]).to(statistics.dtype)


class _Normalise(torch.autograd.Function):
    """gamma * (x - mean) * inverse_std + beta for x (B, C, H, W), backward as in the file's head.

    maps: x with that affine map still to be applied. The derivatives of mean and inverse_std are
    part of the gradient of x.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, maps, norm):
        ctx.save_for_backward(x, gamma, norm.mean, norm.inverse_std)
        ctx.average = norm.average
        out = maps.mapped()[0]
        # Compiled by torch 2.11, a conversion to the same dtype at the end costs the gradient.
        return out if out.dtype == x.dtype else out.to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # (B, C, H, W)
        x, gamma, mean, inverse_std = ctx.saved_tensors  # (B, C, H, W), the others (C,)
        g_x, g_gamma, g_beta = functional.rate_batch_norm_backward(
            grad.to(mean.dtype), x.to(mean.dtype), mean, inverse_std, gamma, average=ctx.average
        )
        return g_x.to(x.dtype), g_gamma, g_beta, None, None
