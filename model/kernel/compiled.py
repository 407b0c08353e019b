"""`functional` through torch.compile: one generated loop per layer.

The generated code reads a neuron's input currents of all T time steps, runs the neuron in
registers, and writes its spikes and three sums: what `cpu` does block by block, without its passes
over the cache. One compilation serves all layers of a kind, since shapes are symbolic.

Time steps are separate tensors here: written as slices of one map they would end in a second loop
that computes everything again.

On a CPU spikes that are bytes are written by `sparse.neurons`, whose loop is quicker. Where the
code cannot be compiled or loaded (no C++ compiler, a cache folder that is full or whose files may
not be executed) a line says so, once, and the neurons run uncompiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from model import functional
from model.functional import MAX_COUNT, Neuron, accumulation_dtype
from model.kernel import operator
from model.kernel.map_rows import MapRows
from model.kernel.record import Fired, Source
from model.kernel.sparse import neurons

# By default the compiler stores intermediate results of such long expressions to memory.
NEVER = 1 << 20
OPTIONS = {
    "realize_opcount_threshold": NEVER,
    "realize_reads_threshold": NEVER,
    "realize_acc_reads_threshold": NEVER,
    "max_pointwise_cat_inputs": 0,
}
# Each T, layout, residual and use of the result needs a graph of its own, four or so for each T;
# by default the compiler gives up after 8 of one kind, and after 256 in all.
GRAPHS = 1 << 12
LIMITS = {"recompile_limit": GRAPHS, "accumulated_recompile_limit": GRAPHS}
UNCOMPILED: set[str] = set()  # the kinds of devices for which compiling has failed


# Batch norm's backward is fused already, by ATen on a CPU and by our two sweeps on a GPU.
fire_backward = operator.fire_backward


def fire(
    source: Source,
    neuron: Neuron | None,
    T: int,
    *,
    spike_dtype: torch.dtype | None = None,
    sums: bool = True,
) -> Fired:
    """`reference.fire`."""
    device = source.current.values.device
    is_quicker = spike_dtype == torch.uint8 and neurons.can_take(source, neuron)
    by_hand = is_quicker or device.type in UNCOMPILED
    if by_hand and not torch.compiler.is_compiling():  # whoever compiles around this can compile
        return operator.fire(source, neuron, T, spike_dtype=spike_dtype, sums=sums)
    layout = MapRows(source.current.values)
    terms = layout.terms(source)
    steps, dtype, is_in_place = source.place(neuron, T, spike_dtype)
    by_step = [(list(values.unbind(0)), scale, shift) for values, scale, shift in terms]
    new = None if is_in_place else dtype
    train, *others = _run(device, by_step, neuron, steps, new, source.kept_dtype(neuron), sums)
    return Fired(terms[0].values if is_in_place else train, *others).each(layout.unflatten)


def _run(device: torch.device, *arguments) -> tuple[Tensor | None, ...]:
    """`_fire`, compiled on its own or into the graph that is being compiled."""
    if torch.compiler.is_compiling():
        return _fire(*arguments)
    try:
        with torch._dynamo.config.patch(LIMITS):
            return _compiled()(*arguments)
    except torch._dynamo.exc.BackendCompilerFailed as error:  # before it has computed anything
        UNCOMPILED.add(device.type)
        reason = str(error.inner_exception).strip().partition("\n")[0]
        print(f"neurons run uncompiled, more slowly: {reason}")
        return _fire(*arguments)


@cache
def _compiled() -> Callable:
    return torch.compile(_fire, dynamic=True, fullgraph=True, options=OPTIONS)


def _fire(
    terms: Sequence[tuple[Sequence[Tensor], Tensor | None, Tensor | None]],
    neuron: Neuron | None,
    steps: int,
    dtype: torch.dtype | None,
    kept: torch.dtype,
    sums: bool,
) -> tuple[Tensor | None, ...]:
    """`reference.fire` on the terms of a sum: (maps of T or of 1 time steps, scale, shift).

    kept: of mean current and eligibility.
    Returns: `Fired`; its train is new memory of dtype, or (None) in the memory of the current.
    """
    currents = terms[0][0]
    wide = accumulation_dtype(currents[0].dtype)
    train = []
    for t in range(steps):
        current, *residual = (_mapped(maps[t % len(maps)].to(wide), *by) for maps, *by in terms)
        train.append(current + residual[0] if residual else current)
    mean = (sum(c.to(wide) for c in currents) / len(currents)).to(kept)
    of_neurons = (None, None, None)
    if neuron is not None:
        train, rate, eligibility = functional.lif_steps(train, neuron)
        counts = functional.spike_counts(rate, steps) if steps <= MAX_COUNT else None
        of_neurons = rate, eligibility.to(kept), counts
    if dtype is None:
        for current, result in zip(currents, train, strict=True):
            current.copy_(result)
    new = None if dtype is None else torch.stack([result.to(dtype) for result in train])
    # Code is generated only for what is returned.
    return (new, mean, *of_neurons) if sums else (new, *Fired(None)[1:])


def _mapped(rows: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    return rows if scale is None else rows * scale + shift
