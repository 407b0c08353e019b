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
rate                gradients flow once, through firing rates (`rate_gradient`). arXiv 2410.11488.
esd                 as rate, with ANN branches and distillation between all heads.
                    arXiv 2510.06254.

Both online methods were published with weight standardisation in place of batch norm. Here every
method trains the same network: online, a batch norm sees the B maps of one time step at a time.
"""

from __future__ import annotations

from typing import NamedTuple


class Method(NamedTuple):
    """A row of METHODS.

    text: what it is, for a person.
    by_rates: gradients flow through firing rates.
    branches: with ANN branches.
    online: one backward pass per time step.
    traces: weights see presynaptic traces (online methods only).
    recomputes: blocks keep their inputs alone.
    """

    text: str
    by_rates: bool = False
    branches: bool = False
    online: bool = False
    traces: bool = False
    recomputes: bool = False


METHODS = {
    "esd": Method("rate gradients, branches, distillation", by_rates=True, branches=True),
    "rate": Method("rate gradients alone", by_rates=True),
    "bptt": Method("surrogate gradients through time"),
    "bptt_checkpointed": Method("bptt that keeps block inputs alone", recomputes=True),
    "sltt": Method("surrogate gradients of each time step alone", online=True),
    "ottt": Method("as sltt, with presynaptic traces", online=True, traces=True),
}
