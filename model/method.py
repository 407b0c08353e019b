"""The ways to train a spiking network: what each differentiates, and what it keeps for that.

L is the loss, v_t, s_t, u_t membrane potential, spikes and potential after reset at time step t,
x_t the input current, a_t the spikes that a layer reads (`functional` has the neuron's equations).

bptt                dL/dx_t = dL/ds_t g_t + decay dL/du_t ... back through all time steps; keeps
                    every layer's maps of T*B samples. Surrogate gradients: arXiv 1901.09948.
bptt_checkpointed   the same gradients; keeps the inputs of the blocks alone and runs each block
                    again in the backward pass. Activation checkpointing: arXiv 1604.06174.
sltt                spatial learning through time: u_{t-1} counts as a constant,
                        dL/dx_t = dL/ds_t g_t,   dL/dW = sum_t dL/dx_t a_t^T,
                    so that each time step has its own backward pass and is then forgotten.
                    arXiv 2302.14311.
ottt                online training through time: as sltt, but weights see presynaptic traces,
                        dL/dW = sum_t dL/dx_t abar_t^T,   abar_t = decay abar_{t-1} + a_t.
                    arXiv 2210.04195 (gradients summed over time, one update per batch).
rate                gradients flow once, through firing rates (`rate_pair`). arXiv 2410.11488.
esd                 as rate, with ANN branches and distillation between all heads.
                    arXiv 2510.06254.

Both online methods were published with weight standardisation in place of batch norm. Here every
method trains the same network: online, a batch norm sees the B maps of one time step at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from model.activation import BatchActivation
from model.baseline.checkpointed import checkpoint_blocks
from model.baseline.online import Online
from model.baseline.through_time import ThroughTime
from model.rate_pair import RatePair

if TYPE_CHECKING:
    from model.abc_model import RateModel


class Method(NamedTuple):
    """A row of METHODS.

    text: what it is, for a person.
    activation: what carries a batch through the network in training.
    branches: with ANN branches.
    own_pass: for a method that does not pass a batch as a whole, how it passes it instead.
    prepare: what is done to a new network.
    evaluation: what carries a batch in evaluation; where a gradient is wanted, it is that of bptt.
    """

    text: str
    activation: type[BatchActivation] | None = None
    branches: bool = False
    own_pass: Online | None = None
    prepare: Callable[[RateModel], None] | None = None
    evaluation: type[BatchActivation] = ThroughTime

    @property
    def by_rates(self) -> bool:
        """Whether gradients flow through firing rates."""
        return self.activation is not None and issubclass(self.activation, RatePair)

    @property
    def online(self) -> bool:
        """Whether each time step has a backward pass of its own."""
        return self.own_pass is not None

    @property
    def recomputes(self) -> bool:
        """Whether blocks keep their inputs alone."""
        return self.prepare is checkpoint_blocks


METHODS = {
    "esd": Method("rate gradients, branches, distillation", RatePair, branches=True),
    "rate": Method("rate gradients alone", RatePair),
    "bptt": Method("surrogate gradients through time", ThroughTime),
    "bptt_checkpointed": Method(
        "bptt that keeps block inputs alone", ThroughTime, prepare=checkpoint_blocks
    ),
    "sltt": Method("surrogate gradients of each time step alone", own_pass=Online(traces=False)),
    "ottt": Method("as sltt, with presynaptic traces", own_pass=Online(traces=True)),
}
