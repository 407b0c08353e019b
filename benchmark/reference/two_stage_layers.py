"""The two layers that the two-stage training of `two_stage` is about: neurons and batch norm.

Each is one module with two meanings in training. The spike stage works on (T*B, ...), time first,
without a graph, and notes what the rate stage needs; the rate stage works on the time means
(B, ...) with torch's autograd. In eval mode there is only the spiking network.

Shapes: T time steps, B batch, C channels, H height, W width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Stage = Literal["spike", "rate"]

SURROGATE_SLOPE = 4.0


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons.

    Spike stage: v_t = decay * u_{t-1} + x_t, s_t = [v_t >= thresh], then the reset
    u_t = v_t - thresh * s_t (soft) or (1 - s_t) v_t + s_t v_reset (hard).
    Rate stage: the value is the firing rate r, the derivative is the eligibility
    e = 1/T sum_t f_t g_t with f_1 = 1, f_{t+1} = 1 + f_t * decay * du_t/dv_t, and g_t the
    derivative of sigmoid(4 (v - thresh)). A detached soft reset has du/dv = 1.
    """

    def __init__(
        self, T: int, decay: float, thresh: float, v_reset: float | None, detach_reset: bool
    ):
        super().__init__()
        self.stage: Stage = "spike"
        self.T, self.decay, self.thresh = T, decay, thresh
        self.v_reset, self.detach_reset = v_reset, detach_reset
        self.firing_rate: Tensor | None = None
        self.eligibility: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.stage == "rate":
            drive = x * self.eligibility
            return self.firing_rate + (drive - drive.detach())
        return self.spike_train(x.unflatten(0, (self.T, -1)))

    def spike_train(self, x: Tensor) -> Tensor:
        """(T, B, ...) -> (T*B, ...) spikes; notes the firing rate and, in training, eligibility."""
        potential = torch.zeros_like(x[0])
        eligibility = torch.zeros_like(x[0])
        factor = 1.0
        spikes = []
        for t in range(self.T):
            potential = self.decay * potential + x[t]
            spike = (potential >= self.thresh).to(x.dtype)
            if self.training:
                sigmoid = torch.sigmoid(SURROGATE_SLOPE * (potential - self.thresh))
                surrogate = SURROGATE_SLOPE * sigmoid * (1 - sigmoid)
                eligibility = eligibility + factor * surrogate
                factor = 1 + factor * self.decay * self.reset_slope(potential, spike, surrogate)
            potential = self.reset(potential, spike)
            spikes.append(spike)
        train = torch.stack(spikes)
        self.firing_rate = train.mean(0)
        self.eligibility = eligibility / self.T if self.training else None
        return train.flatten(0, 1)

    def reset(self, potential: Tensor, spike: Tensor) -> Tensor:
        if self.v_reset is None:
            return potential - self.thresh * spike
        return (1 - spike) * potential + spike * self.v_reset

    def reset_slope(self, potential: Tensor, spike: Tensor, surrogate: Tensor) -> Tensor | float:
        """du/dv. A hard reset is never detached here, as in the published code."""
        if self.v_reset is not None:
            return (1 - spike) - (potential - self.v_reset) * surrogate
        return 1.0 if self.detach_reset else 1 - self.thresh * surrogate


class TwoStageBatchNorm(nn.BatchNorm2d):
    """Batch norm whose rate stage normalises with the statistics of the spike stage."""

    stage: Stage = "spike"
    spike_mean: Tensor
    spike_variance: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return self.spike_stage(x) if self.stage == "spike" else self.rate_stage(x)

    def spike_stage(self, x: Tensor) -> Tensor:
        """Ordinary batch norm over T*B. A momentum of 1 hands out the statistics of this batch."""
        count = x.numel() // x.shape[1]
        mean, unbiased = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        out = F.batch_norm(x, mean, unbiased, self.weight, self.bias, True, 1.0, self.eps)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        self.num_batches_tracked += 1
        self.spike_mean = mean.view(1, -1, 1, 1)
        self.spike_variance = (unbiased * (count - 1) / count).view(1, -1, 1, 1)
        return out

    def rate_stage(self, x: Tensor) -> Tensor:
        """Values of the spike statistics, derivatives of mean(x) and mean((x - mean)^2).

        The relu is the published one: it changes no value, and cuts the derivative of a variance
        that is exactly 0.
        """
        mean = x.mean((0, 2, 3), keepdim=True)
        mean = self.spike_mean + (mean - mean.detach())
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        variance = F.relu(self.spike_variance + (variance - variance.detach()))
        normalised = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight.view(1, -1, 1, 1) * normalised + self.bias.view(1, -1, 1, 1)
