"""The average of a network's weights over the steps of its training (--ema).

    d_n = min(decay, (1 + n) / (10 + n))
    average <- d_n average + (1 - d_n) weights,   after every step; n: updates so far

Of the batch norms' running statistics likewise. An average over many steps lies where the single
steps, which are noisy, only pass by. It begins with the initial weights; by the smaller d_n of the
first steps they are soon forgotten, so that a short training profits too.

torch.optim.swa_utils has the update. Its AveragedModel has another rule for the first step, and
asks the device for n in each.

Source: exponential moving averages of weights, arXiv 1703.01780; d_n is the rule of TensorFlow's
ExponentialMovingAverage. Not from the paper.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from model import RateModel


class WeightAverage:
    """The average of a network's weights, and how many steps it has seen.

    net: a network that has it, for evaluation; it stays in the memory where it is, so that a
    recorded step reads what was last written there.
    """

    def __init__(self, net: RateModel, decay: float):
        self.net = deepcopy(net).eval()
        self.decay, self.updates = decay, 0

    def begin(self, net: RateModel) -> None:
        """Follow a network, and take over its values unless there are averaged steps already.

        Its tensors are looked up once, not in every step.
        """
        if self.updates == 0:
            self.net.load_state_dict(net.state_dict())
        self.own, self.followed = values_and_counts(self.net), values_and_counts(net)

    @torch.no_grad()
    def update(self) -> None:
        """A step has moved the weights that this follows; the host waits for nothing."""
        n = self.updates
        decay = min(self.decay, (1 + n) / (10 + n))
        (average, own_counts), (values, counts) = self.own, self.followed
        get_ema_multi_avg_fn(decay)(average, values, n)
        torch._foreach_copy_(own_counts, counts)
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "model": self.net.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        self.net.load_state_dict(state["model"])


def values_and_counts(net: RateModel) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and running statistics; and batch norms' counts of steps, which are integers."""
    tensors = [*net.parameters(), *net.buffers()]
    values = [tensor for tensor in tensors if tensor.is_floating_point()]
    return values, [tensor for tensor in tensors if not tensor.is_floating_point()]
