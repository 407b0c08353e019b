"""Kernels against float64, at the shapes and dtypes of training and at two odd shapes.

About two dozen specialisations for Triton to compile, nearly all of them such as training launches.
A kernel may be twice as far from float64 as plain PyTorch is, plus one rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from benchmark.reference.kernel_case import (
    Case,
    backward_problems,
    forward_problems,
    norm_problems,
    spike_problems,
)
from benchmark.reference.norm_case import NormCase, norm_case_problems
from benchmark.speed.part.finding import Finding, Line, reason
from benchmark.speed.part.setting import Setting
from model import kernel
from model.functional import Neuron
from model.kernel import DEFAULT_EXECUTION, Execution
from model.kernel.record import Fired, Gradients, Source

HALF, BRAIN = torch.float16, torch.bfloat16
DETACHED = "soft detached"  # the paper's reset


def find(setting: Setting) -> Iterator[Finding]:
    """A row per case, with what exceeds its bound; then a line on all of them."""
    rows = []
    for name, case, problems in checks(setting):
        try:
            found = problems_in_words(problems())
        except Exception as error:  # of Triton's compiler, say: the other kernels may be well
            found = f"raised {reason(error)}"
        rows.append({"kernel": name, "case": str(case), "exceeds its bound": found})
        yield rows[-1]
    wrong = sum(row["exceeds its bound"] != "nothing" for row in rows)
    yield Line(f"{len(rows) - wrong} of {len(rows)} cases are within their bounds", ok=not wrong)


def checks(setting: Setting) -> Iterator[tuple[str, Case | NormCase, Callable[[], list]]]:
    """(kernel, case, what computes its problems)."""
    run, maps = partial(run_on, setting.device), setting.size.maps
    fire, spikes, backward = (partial(run, f) for f in (run_fire, run_spikes, run_backward))
    for case in fire_cases(maps):
        yield "fire", case, partial(forward_problems, case, fire, overwrite=not case.constant)
    case = Case(DETACHED, "bytes", shape=maps)
    check = partial(forward_problems, case, fire, spike_dtype=torch.uint8)
    yield "fire, spikes as bytes", case, check
    case = Case(DETACHED, "identity", shape=maps)
    yield "norm without neurons", case, partial(norm_problems, case, fire)
    case = Case(DETACHED, "none", normed=False, shape=maps)
    yield "spikes of an evaluation", case, partial(spike_problems, case, spikes)
    for case, from_batch, kept in backward_cases(maps):
        options = {"from_batch": from_batch, "wants_source": True, "fires": True}
        options |= {"kept": kept, "dtype": kept}
        check = partial(backward_problems, case, backward, **options)
        yield f"backward, kept as {kept}", case, check
    for case in norm_cases(maps):
        functions = kernel.batch_statistics, kernel.norm_constants
        check = partial(norm_case_problems, case, *functions, device=setting.device)
        yield "batch norm per channel", case, check


def fire_cases(maps: tuple[int, ...]) -> tuple[Case, ...]:
    """As in training: the stem, plain layers, ends of blocks without and with a shortcut."""
    return (
        Case(DETACHED, "none", constant=True, shape=maps),
        Case(DETACHED, "none", shape=maps),
        Case(DETACHED, "identity", shape=maps),
        Case(DETACHED, "normed", shape=maps),
        Case("soft", "identity", shape=maps),
        Case("hard", "identity", shape=maps),
        Case(DETACHED, "identity", dtype=BRAIN, shape=maps),
        Case(DETACHED, "normed", dtype=BRAIN, shape=maps),
        Case(DETACHED, "identity", dtype=HALF, shape=maps),
        Case("hard", "constant"),
        Case("soft", "normed", channels_last=False, dtype=BRAIN),
    )


def backward_cases(maps: tuple[int, ...]) -> tuple[tuple[Case, bool, torch.dtype | None], ...]:
    """(case, whether statistics are the batch's, dtype in which the maps were kept)."""
    return (
        (Case(DETACHED, shape=maps), True, torch.float32),
        (Case(DETACHED, shape=maps), True, BRAIN),
        (Case(DETACHED, shape=maps), True, HALF),
        (Case(DETACHED), False, torch.float32),
        (Case(DETACHED, channels_last=False), True, BRAIN),
    )


def norm_cases(maps: tuple[int, ...]) -> Iterator[NormCase]:
    T, B, *frame = maps
    for dtype in (torch.float32, BRAIN, HALF):
        yield NormCase((T * B, *frame), dtype=dtype)
    yield NormCase((T * B, *frame), mean=300.0)
    yield NormCase(channels_last=False)


def run_on(device: str, function: Callable, *arguments: Any, **options: Any) -> Fired | Gradients:
    """The function's result, back on the CPU; its arguments' tensors are moved to the device."""
    there = tree_map_only(Tensor, lambda tensor: tensor.to(device), arguments)
    return tree_map_only(Tensor, Tensor.cpu, function(*there, **options))


def run_fire(
    source: Source, neuron: Neuron | None, T: int, *, spike_dtype: torch.dtype | None = None
) -> Fired:
    return kernel.fire(source, neuron, T, Execution(sparse=spike_dtype is not None))


def run_spikes(source: Source, neuron: Neuron, T: int, *, sums: bool) -> Fired:
    return Fired(kernel.spikes(source.current.values, neuron, T))


def run_backward(*arguments: Any, dtype: torch.dtype | None) -> Gradients:
    return kernel.fire_backward(*arguments, DEFAULT_EXECUTION, dtype=dtype)


def problems_in_words(problems: list) -> str:
    words = [
        f"{name}: error {error:.2g}, allowed {allowed:.2g}"
        if isinstance(error, float)
        else f"{name}: {error} {allowed}"
        for name, error, allowed in (p if isinstance(p, tuple) else (p, "", "") for p in problems)
    ]
    return "; ".join(words) or "nothing"
