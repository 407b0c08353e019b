"""The eligibility of `functional`, summed over time in place, for the blocks of `kernel_cpu`.

    e = 1/T sum_t f_t g_t,   g_t = slope q_t (1 - q_t) = slope (1/4 - (q_t - 1/2)^2)

with q the sigmoid of slope (v_t - threshold) and f the sensitivity (`functional.next_sensitivity`).
Both forms of g are the same function but for their rounding: far from the threshold the second may
come out as -1e-7 instead of 0.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from model import functional
from model.functional import SURROGATE_SLOPE, Neuron


class ScalarSensitivity:
    """e = 1/T sum_t f_t g_t, filled in step by step, where f does not depend on the neuron.

    The sum of f_t is known before; what is left to be summed for each neuron is f_t (q - 1/2)^2.
    """

    def __init__(self, eligibility: Tensor, neuron: Neuron, steps: int):
        self.eligibility = eligibility
        f = list(accumulate(range(steps - 1), lambda f, _: 1 + neuron.decay * f, initial=1.0))
        self.weights = [SURROGATE_SLOPE / steps * f_t for f_t in f]
        self.total = eligibility.new_tensor(sum(self.weights) / 4)

    def add(self, v: Tensor, centred: Tensor, spikes: Tensor, t: int) -> None:
        """Add the term of time step t, given q - 1/2 of its potentials."""
        base = self.eligibility if t else self.total
        torch.addcmul(base, centred, centred, value=-self.weights[t], out=self.eligibility)


class MapSensitivity:
    """The same where f is one map per time step; uses up q - 1/2."""

    def __init__(self, eligibility: Tensor, neuron: Neuron, steps: int):
        self.eligibility, self.neuron, self.steps = eligibility, neuron, steps
        self.quarter = eligibility.new_tensor(0.25)
        self.f: Tensor | float = 1.0

    def add(self, v: Tensor, centred: Tensor, spikes: Tensor, t: int) -> None:
        """As above; v are the potentials before the reset."""
        g = torch.addcmul(self.quarter, centred, centred, value=-1, out=centred)
        g *= SURROGATE_SLOPE
        if t:
            self.eligibility.addcmul_(g, self.f, value=1 / self.steps)
        else:
            torch.mul(g, 1 / self.steps, out=self.eligibility)
        if t + 1 < self.steps:
            self.f = functional.next_sensitivity(self.f, v, g, spikes, self.neuron)


def eligibility_sum(
    eligibility: Tensor, neuron: Neuron, steps: int
) -> ScalarSensitivity | MapSensitivity:
    """What fills `eligibility` (n, m) over T steps; f is a number where only a soft reset is."""
    scalar = neuron.v_reset is None and neuron.detach_reset
    return (ScalarSensitivity if scalar else MapSensitivity)(eligibility, neuron, steps)
