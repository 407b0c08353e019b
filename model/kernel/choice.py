"""Which implementation of the hot functions runs: the one place of choice.

auto       hand-written kernels, by device: blocked and in place on a CPU (`cpu`), Triton on a GPU
           (`triton`); registered as custom operators in `operator`
compiled   the equations of `functional` through torch.compile; needs a C++ compiler on a CPU
reference  those equations themselves, the truth that the others are tested against

`build_model(..., execution=Execution(...))` chooses for the rate-based training of a network. Where
that says auto, the environment variable SPIKING_KERNEL, if set, decides when the network is built.
Inference takes auto in any case; BPTT and online training are plain PyTorch.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor

from model.convolution import Convolution, Geometry, convolution_backward
from model.functional import Neuron
from model.kernel import compiled, operator, reference
from model.kernel.record import Fired, Gradients, Maps, Normalisation, Source
from model.kernel.sparse import convolution_gradients, library, neurons, spike_convolution

BACKENDS = {"auto": operator, "compiled": compiled, "reference": reference}
ENVIRONMENT_VARIABLE = "SPIKING_KERNEL"
FLOATING_POINT = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


class Execution(NamedTuple):
    """How a network is computed; every layer stays the same up to rounding.

    backend: a key of BACKENDS.
    convolution_forward: dtype of the convolutions that read counts of spikes, which are exact in
        it; weights and currents are rounded. What reads such currents stays in it; whatever else
        is in that of the weights, or autocast's, as all is for None.
    convolution_backward: dtype of the backward of the spiking layers' convolutions; None is that
        of their forward. torch.bfloat16 under an fp32 forward leaves every spike as it is.
    sparse: keep spike trains as bytes, and on a CPU, wherever that takes less time, skip silent
        inputs in their convolutions (`spike_convolution`) and compute gradients of convolutions
        with fewer products (`convolution_gradients`).
    """

    backend: str = "auto"
    convolution_forward: torch.dtype | None = None
    convolution_backward: torch.dtype | None = None
    sparse: bool = False

    def resolved(self) -> Execution:
        """With the environment variable in place of auto.

        Raises: ValueError for an unknown backend, a dtype that is none of FLOATING_POINT, or a
        backward in torch.float16 that nobody has asked for.
        """
        backend, source = self.backend, "backend"
        if backend == "auto" and ENVIRONMENT_VARIABLE in os.environ:
            backend, source = os.environ[ENVIRONMENT_VARIABLE], ENVIRONMENT_VARIABLE
        if backend not in BACKENDS:
            raise ValueError(f"unknown {source} {backend!r}: choose one of {', '.join(BACKENDS)}")
        for name in ("convolution_forward", "convolution_backward"):
            dtype = getattr(self, name)
            if dtype is not None and dtype not in FLOATING_POINT:
                names = ", ".join(map(str, FLOATING_POINT))
                raise ValueError(f"{name} must be None or one of {names}, got {dtype!r}")
        if self.convolution_forward == torch.float16 and self.convolution_backward is None:
            raise ValueError(
                "convolution_forward torch.float16 needs a convolution_backward, such as "
                "torch.bfloat16: gradients may be too small for float16"
            )
        return self._replace(backend=backend)


DEFAULT_EXECUTION = Execution()

# Batch norm per channel has no other ways to be computed than those of the devices.
batch_statistics, norm_constants = operator.batch_statistics, operator.norm_constants
settled = reference.settled
# Neither has inference on spikes that are bytes.
can_fire_bytes, fire_bytes = neurons.can_fire, neurons.fire
can_skip, arrange = spike_convolution.can_skip, spike_convolution.arrange


def fire(source: Source, neuron: Neuron | None, T: int, execution: Execution) -> Fired:
    """`reference.fire`; spikes are as convolutions read them, bytes where execution is sparse."""
    spike_dtype = torch.uint8 if execution.sparse else execution.convolution_forward
    return BACKENDS[execution.backend].fire(source, neuron, T, spike_dtype=spike_dtype)


def skips_silence(x: Tensor, execution: Execution) -> bool:
    """Whether inference on x keeps spikes as bytes: where asked for, and where that saves time."""
    on_cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return execution.sparse and on_cpu and library.is_available()


def spikes(current: Tensor, neuron: Neuron, T: int, *, as_bytes: bool = False) -> Tensor:
    """Spikes (T, B, ...) of an input current (T or 1, B, ...), with nothing for a gradient.

    as_bytes: they are bytes, as `convolve` skips the silent ones, not in the current's dtype.
    """
    dtype = torch.uint8 if as_bytes else None
    return operator.fire(Source(Maps(current)), neuron, T, spike_dtype=dtype, sums=False).train


def fire_backward(
    grad: Tensor,
    eligibility: Tensor | None,
    y: Tensor,
    norm: Normalisation,
    wants_source: bool,
    execution: Execution,
    *,
    dtype: torch.dtype | None = None,
    is_mean: bool = True,
) -> Gradients:
    """`reference.fire_backward`.

    is_mean: whether y is the time mean of what the statistics saw. Where it is not, and where
    processes share a batch, only the reference has batch norm's general backward.
    """
    backend = execution.backend if is_mean and norm.average is None else "reference"
    return BACKENDS[backend].fire_backward(grad, eligibility, y, norm, wants_source, dtype=dtype)


def convolve(
    maps: Tensor,
    convolution: Convolution,
    *,
    dtype: torch.dtype | None = None,
    arranged: Tensor | None = None,
) -> Tensor:
    """The convolution of maps (N, Ci, H, W): numbers, or counts of spikes as bytes.

    Silent ones among spikes are skipped where they can be and that takes less time.
    dtype: to which maps and weights are rounded first; no input is skipped then. None: their own.
    arranged: the weight as `arrange` makes it, for one that does not change.
    Returns: (N, C, H', W').
    """
    if dtype is not None:
        return convolution.in_dtype(dtype)(maps.to(dtype))
    if maps.is_floating_point():
        return convolution(maps)
    if can_skip(maps, convolution):
        return spike_convolution.convolve(maps, convolution, arranged=arranged)
    return convolution(maps.to(convolution.weight.dtype))


def convolve_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
    needs: tuple[bool, bool, bool],
    execution: Execution,
    *,
    dtype: torch.dtype,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """`convolution_backward` at x, numbers or counts as bytes, in a dtype.

    Where execution is sparse, with fewer products if that takes less time.
    """
    if (
        execution.sparse
        and needs[:2] == (True, True)
        and grad.dtype == weight.dtype == dtype
        and convolution_gradients.can_filter(x, weight, geometry)
    ):
        of_bias = grad.sum((0, 2, 3)) if needs[2] else None
        return *convolution_gradients.filtered_gradients(grad, x, weight), of_bias
    return convolution_backward(grad, x.to(dtype), weight, geometry, needs)
