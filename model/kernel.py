"""Which implementation of the hot functions of `functional` runs: the one place of choice.

auto       hand-written kernels, by device: blocked and in place on a CPU (`kernel_cpu`), Triton on
           a GPU (`kernel_triton`); registered as custom operators in `kernel_op`
compiled   `functional` through torch.compile (`kernel_compiled`); needs a C++ compiler on a CPU
reference  `functional` itself, the truth that the others are tested against

`build_model(..., execution=Execution(...))` chooses for the rate-based training of a network. Where
that says auto, the environment variable SPIKING_KERNEL, if set, decides when the network is built.
Inference takes auto in any case; BPTT and online training are plain PyTorch.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor

from model import functional, kernel_compiled, kernel_op
from model.functional import Fired, Neuron

BACKENDS = {"auto": kernel_op, "compiled": kernel_compiled, "reference": functional}
ENVIRONMENT_VARIABLE = "SPIKING_KERNEL"
FLOATING_POINT = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


class Execution(NamedTuple):
    """How a network is computed; every layer stays the same up to rounding.

    backend: a key of BACKENDS.
    convolution_backward: dtype of the backward of the spiking layers' convolutions; None is that
        of their forward. torch.bfloat16 under an fp32 forward leaves every spike as it is.
    sparse: keep spike trains as bytes, and on a CPU skip silent inputs in their convolutions
        (`spike_convolution`).
    """

    backend: str = "auto"
    convolution_backward: torch.dtype | None = None
    sparse: bool = False

    def resolved(self) -> Execution:
        """With the environment variable in place of auto.

        Raises: ValueError for an unknown backend or a dtype that is none of FLOATING_POINT.
        """
        backend, source = self.backend, "backend"
        if backend == "auto" and ENVIRONMENT_VARIABLE in os.environ:
            backend, source = os.environ[ENVIRONMENT_VARIABLE], ENVIRONMENT_VARIABLE
        if backend not in BACKENDS:
            raise ValueError(f"unknown {source} {backend!r}: choose one of {', '.join(BACKENDS)}")
        dtype = self.convolution_backward
        if dtype is not None and dtype not in FLOATING_POINT:
            names = ", ".join(str(name) for name in FLOATING_POINT)
            raise ValueError(f"convolution_backward must be None or one of {names}, got {dtype!r}")
        return self._replace(backend=backend)


DEFAULT_EXECUTION = Execution()


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """`functional.batch_statistics` by ATen's own kernel for batch norm; never below fp32."""
    running = x.new_zeros(x.shape[1], dtype=functional.accumulation_dtype(x.dtype))
    # The buffers only make ATen return its sums in their dtype; a momentum of 0 leaves them alone.
    return torch.batch_norm_update_stats(x, running, running.clone(), 0.0)


def norm_lif_rate(
    current: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    steps: int,
    neuron: Neuron,
    overwrite: bool = False,
    residual_scale: Tensor | None = None,
    residual_shift: Tensor | None = None,
    compact: bool = False,
    backend: str = "auto",
) -> Fired:
    """`functional.norm_lif_rate`."""
    run = BACKENDS[backend].norm_lif_rate
    affines = residual_scale, residual_shift
    return run(current, scale, shift, residual, steps, neuron, overwrite, *affines, compact)


def norm_rate(
    current: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    overwrite: bool = False,
    residual_scale: Tensor | None = None,
    residual_shift: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """`functional.norm_rate`."""
    run = BACKENDS[backend].norm_rate
    return run(current, scale, shift, residual, overwrite, residual_scale, residual_shift)


def lif_spikes(x: Tensor, steps: int, neuron: Neuron) -> Tensor:
    """`functional.lif_spikes`."""
    return kernel_op.lif_spikes(x, steps, neuron)


def norm_lif_backward(
    grad: Tensor,
    eligibility: Tensor | None,
    y: Tensor,
    gamma: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    from_batch: bool,
    wants_sum: bool,
    backend: str = "auto",
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """`functional.norm_lif_backward`; but for the reference, mean must be the mean of y."""
    run = BACKENDS[backend].norm_lif_backward
    return run(grad, eligibility, y, gamma, mean, inverse_std, from_batch, wants_sum)
