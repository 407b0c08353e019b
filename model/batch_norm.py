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
from model.kernel import Normalisation


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


def normalisation(norm: nn.BatchNorm2d, maps: Tensor, repeats: int) -> Normalisation:
    """Batch norm at work on maps (N, C, H, W) that each stand for `repeats` time steps.

    In training with their statistics, else with the running ones. Raises: as
    `statistics_in_training`.
    """
    if norm.training:
        mean, variance = statistics_in_training(norm, maps, repeats)
    else:
        mean, variance = norm.running_mean, norm.running_var
    inverse_std = torch.rsqrt(variance + norm.eps)
    average = norm.processes.mean if isinstance(norm, SynchronisedBatchNorm2d) else None
    return Normalisation(norm.weight, mean, inverse_std, norm.training, average)


def normalise(norm: nn.BatchNorm2d, x: Tensor, repeats: int = 1) -> Tensor:
    """norm(x) of maps (B, C, H, W) that each stand for `repeats` time steps.

    Gradients reach x, gamma and beta. Raises: as `statistics_in_training`.
    """
    if not norm.training:
        return norm(x)
    at_work = normalisation(norm, x.detach(), repeats)
    if at_work.average is not None:
        return _Normalise.apply(x, norm.weight, norm.bias, at_work)
    # Not by F.batch_norm, which would count the values without their repeats.
    fast = torch.backends.cudnn.enabled
    return torch.batch_norm(x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps, fast)


def statistics_in_training(
    norm: nn.BatchNorm2d, maps: Tensor, repeats: int = 1
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of maps (N, C, H, W); the running ones move by them.

        running <- (1 - momentum) running + momentum (mean, variance count / (count - 1))

    repeats: the time steps that each map stands for, so that count, the number of values per
    channel, is T*B*H*W.
    Raises: ValueError if there is one value per channel.
    """
    mean, variance = kernel.batch_statistics(maps)
    count = maps[:, 0].numel() * repeats
    if isinstance(norm, SynchronisedBatchNorm2d):
        count *= norm.processes.world_size
        mean, variance = _of_all(mean, variance, norm.processes)
    if count < 2:
        raise ValueError(
            "batch norm needs more than one value per channel to train, got one: use a larger "
            "batch, a larger image or more time steps"
        )
    # Once per step, from the spikes: the published rate pass leaves the running ones alone.
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
    unbiased = variance * (count / (count - 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)
    return mean, variance


def _of_all(mean: Tensor, variance: Tensor, processes: Processes) -> tuple[Tensor, Tensor]:
    """Mean and variance over the processes, in float64: the difference of squares cancels."""
    m, v = mean.double(), variance.double()
    m, square = processes.mean(torch.stack([m, v + m.square()])).unbind()
    return m.to(mean.dtype), (square - m.square()).clamp(min=0).to(variance.dtype)


class _Normalise(torch.autograd.Function):
    """gamma * (x - mean) * inverse_std + beta for x (B, C, H, W), backward as in the file's head.

    The derivatives of mean and inverse_std are part of the gradient of x.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, norm):
        ctx.save_for_backward(x, gamma, norm.mean, norm.inverse_std)
        ctx.average = norm.average
        out = norm.affine(x[None], beta).mapped()[0]
        # Compiled by torch 2.11, a conversion to the same dtype at the end costs the gradient.
        return out if out.dtype == x.dtype else out.to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # (B, C, H, W)
        x, gamma, mean, inverse_std = ctx.saved_tensors  # (B, C, H, W), the others (C,)
        g_x, g_gamma, g_beta = functional.rate_batch_norm_backward(
            grad.to(mean.dtype), x.to(mean.dtype), mean, inverse_std, gamma, average=ctx.average
        )
        return g_x.to(x.dtype), g_gamma, g_beta, None
