"""`functional` through torch.compile: one generated loop per layer.

The generated code reads a neuron's input currents of all T time steps, runs the neuron in
registers, and writes its spikes and three sums: what `kernel_cpu` does block by block, without its
passes over the cache. One compilation serves all layers of a kind, since shapes are symbolic.

Time steps are separate tensors here: written as slices of one map they would end in a second loop
that computes everything again.

Where the code cannot be compiled or loaded (no C++ compiler, a cache folder that is full or whose
files may not be executed) a line says so, once, and the neurons run uncompiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from model import functional, kernel_op
from model.functional import Fired, Neuron, accumulation_dtype
from model.map_rows import MapRows

# By default the compiler stores intermediate results of such long expressions to memory.
NEVER = 1 << 20
OPTIONS = {
    "realize_opcount_threshold": NEVER,
    "realize_reads_threshold": NEVER,
    "realize_acc_reads_threshold": NEVER,
    "max_pointwise_cat_inputs": 0,
}
GRAPHS = 256  # T, layouts, residuals and overwriting each need their own graph
UNCOMPILED: set[str] = set()  # the kinds of devices for which compiling has failed


def _is_uncompiled(tensor: Tensor) -> bool:
    # Whoever compiles around this has a compiler.
    return tensor.device.type in UNCOMPILED and not torch.compiler.is_compiling()


def _run(function: Callable, device: torch.device, *arguments) -> tuple:
    """function(*arguments), compiled on its own or into the graph that is being compiled."""
    if torch.compiler.is_compiling():
        return function(*arguments)
    try:
        with torch._dynamo.config.patch(recompile_limit=GRAPHS):
            return _compiled(function)(*arguments)
    except torch._dynamo.exc.BackendCompilerFailed as error:  # before it has computed anything
        UNCOMPILED.add(device.type)
        reason = str(error.inner_exception).strip().partition("\n")[0]
        print(f"neurons run uncompiled, more slowly: {reason}")
        return function(*arguments)


@cache
def _compiled(function: Callable) -> Callable:
    return torch.compile(function, dynamic=True, fullgraph=True, options=OPTIONS)


def _affine(rows: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    return rows if scale is None else rows * scale + shift


def _inputs(
    currents: Sequence[Tensor],
    scale: Tensor | None,
    shift: Tensor | None,
    residuals: Sequence[Tensor] | None,
    residual_scale: Tensor | None,
    residual_shift: Tensor | None,
    steps: int,
) -> list[Tensor]:
    """The normalised input current of every time step, from sequences of T or of 1."""
    dtype = accumulation_dtype(currents[0].dtype)
    inputs = []
    for t in range(steps):
        x = _affine(currents[t % len(currents)].to(dtype), scale, shift)
        if residuals is not None:
            x = x + _affine(residuals[t % len(residuals)], residual_scale, residual_shift)
        inputs.append(x)
    return inputs


def _fire(sources, steps, neuron, overwrite, compact):
    currents, inputs = sources[0], _inputs(*sources, steps)
    spikes, rate, eligibility = functional.lif_steps(inputs, neuron)
    mean = sum(c.to(inputs[0].dtype) for c in currents) / len(currents)
    return _written(currents, spikes, overwrite, compact), rate, eligibility, mean


def _norm(sources, steps, overwrite):
    currents, inputs = sources[0], _inputs(*sources, steps)
    mean = sum(c.to(inputs[0].dtype) for c in currents) / len(currents)
    return _written(currents, inputs, overwrite), mean


def _written(
    currents: Sequence[Tensor], results: Sequence[Tensor], overwrite: bool, compact: bool = False
) -> Tensor | None:
    """The results of all time steps, in new memory, or in that of currents (None)."""
    if not overwrite:
        dtype = functional.spike_dtype(currents[0], compact)
        return torch.stack([r.to(dtype) for r in results])
    for current, result in zip(currents, results, strict=True):
        current.copy_(result)
    return None


def _sources(layout: MapRows, x: Tensor, residual: Tensor | None, *affines: Tensor | None) -> tuple:
    """The first arguments of `_inputs`; affines: scale, shift, residual_scale, residual_shift."""
    scale, shift, *rest = (None if v is None else layout.per_channel(v) for v in affines)
    residuals = None if residual is None else list(layout.flatten(residual).unbind(0))
    return list(x.unbind(0)), scale, shift, residuals, *rest


def norm_lif_rate(
    current: Tensor, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None,
    steps: int, neuron: Neuron, overwrite: bool = False,
    residual_scale: Tensor | None = None, residual_shift: Tensor | None = None,
    compact: bool = False,
) -> Fired:  # fmt: skip
    """`functional.norm_lif_rate`."""
    if _is_uncompiled(current):
        return kernel_op.norm_lif_rate(
            current, scale, shift, residual, steps, neuron, overwrite, residual_scale,
            residual_shift, compact,
        )  # fmt: skip
    layout = MapRows(current)
    x = layout.flatten(current)
    overwrite = overwrite and len(x) == steps > 1 and not compact
    sources = _sources(layout, x, residual, scale, shift, residual_scale, residual_shift)
    spikes, *sums = _run(_fire, current.device, sources, steps, neuron, overwrite, compact)
    maps = (layout.unflatten(m[None])[0] for m in sums)
    return Fired(layout.unflatten(x if overwrite else spikes), *maps)


def norm_rate(
    current: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, overwrite: bool = False,
    residual_scale: Tensor | None = None, residual_shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`functional.norm_rate`."""
    if _is_uncompiled(current):
        return kernel_op.norm_rate(
            current, scale, shift, residual, overwrite, residual_scale, residual_shift
        )
    layout = MapRows(current)
    x = layout.flatten(current)
    steps = max(len(x), 1 if residual is None else len(residual))
    overwrite = overwrite and len(x) == steps > 1
    sources = _sources(layout, x, residual, scale, shift, residual_scale, residual_shift)
    out, mean = _run(_norm, current.device, sources, steps, overwrite)
    return layout.unflatten(x if overwrite else out), layout.unflatten(mean[None])[0]


# Batch norm's backward is fused already, by ATen on a CPU and by our two sweeps on a GPU.
norm_lif_backward = kernel_op.norm_lif_backward
