"""Cases on which every implementation of the hot functions must agree with `kernel.reference`.

`run` is everywhere a function with the signature of `reference.fire` or `reference.fire_backward`.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from model import functional
from model.functional import Neuron
from model.kernel import reference
from model.kernel.record import Fired, Gradients, Maps, Normalisation, Source

RESETS = {
    "soft detached": Neuron(0.2, 1.0, None, True),
    "soft": Neuron(0.3, 0.9, None, False),
    "hard": Neuron(0.4, 0.8, -0.1, True),
}
SHAPE = T, B, C, H, W = 3, 2, 5, 7, 9
UNDECIDED = 1e-5  # of the threshold: where rounding may decide whether a neuron fires


@dataclass(frozen=True)
class Case:
    """residual: "none", "identity", "bytes" (spikes), "normed" or "constant" (in time, not
    normalised).

    normed: whether the current is normalised; constant: whether it is constant in time; shape:
    T, B, C, H, W.
    """

    reset: str
    residual: str = "identity"
    channels_last: bool = True
    normed: bool = True
    constant: bool = False
    dtype: torch.dtype = torch.float32
    shape: tuple[int, ...] = SHAPE

    def __str__(self) -> str:
        words = [self.reset, self.residual, "nhwc" if self.channels_last else "nchw"]
        words += [] if self.normed else ["plain"]
        words += ["constant"] if self.constant else []
        words += ["x".join(map(str, self.shape))] if self.shape != SHAPE else []
        return "-".join([*words, str(self.dtype).removeprefix("torch.")])

    @property
    def neuron(self) -> Neuron:
        return RESETS[self.reset]

    def source(self, reusable: bool = False) -> Source:
        T, B, C, H, W = self.shape
        generator = torch.Generator().manual_seed(0)
        wide = functional.accumulation_dtype(self.dtype)

        def values() -> Tensor:
            return (0.5 + torch.rand(C, generator=generator)).to(wide)

        def maps(steps: int, is_normed: bool) -> Maps:
            flat = torch.randn(steps * B, C, H, W, generator=generator).to(self.dtype)
            if self.channels_last:
                flat = flat.contiguous(memory_format=torch.channels_last)
            over_time = flat.unflatten(0, (steps, B))
            return Maps(over_time, values(), values() - 1) if is_normed else Maps(over_time)

        current = maps(1 if self.constant else T, self.normed)
        if self.residual == "none":
            return Source(current, reusable=reusable)
        residual = maps(1 if self.residual == "constant" else T, self.residual == "normed")
        if self.residual == "bytes":
            residual = Maps((residual.values > 0).to(torch.uint8))
        return Source(current, residual, reusable)


def cases(dtypes: Sequence[torch.dtype]) -> Iterator[Case]:
    """All resets, residuals and layouts; and currents that are constant or not normalised."""
    for dtype in dtypes:
        for reset, residual, last in product(
            RESETS, ("none", "identity", "normed", "constant"), (True, False)
        ):
            yield Case(reset, residual, last, dtype=dtype)
        for last in (True, False):
            yield Case("soft detached", "bytes", last, dtype=dtype)
            yield Case("hard", "none", last, normed=False, dtype=dtype)
            yield Case("soft", "normed", last, constant=True, dtype=dtype)


def changed(source: Source, change: Callable[[Tensor], Tensor]) -> Source:
    """Every tensor of a source changed."""

    def of(maps: Maps) -> Maps:
        return Maps(*(None if value is None else change(value) for value in maps))

    residual = None if source.residual is None else of(source.residual)
    return Source(of(source.current), residual, source.reusable)


def errors(results: Sequence[Tensor], truths: Sequence[Tensor]) -> list[float]:
    """Largest absolute difference of each result from its float64 truth."""
    pairs = zip(results, truths, strict=True)
    return [float((result.double() - truth).abs().max()) for result, truth in pairs]


def forward_problems(
    case: Case,
    run: Callable[..., Fired],
    *,
    overwrite: bool = False,
    spike_dtype: torch.dtype | None = None,
) -> list:
    """What is wrong with an implementation of `fire` on a case; [] if nothing is.

    Its error against float64 may be twice that of plain PyTorch, plus one rounding.
    overwrite: whether the memory of the current is offered for the result.
    """
    return _fire_problems(case, run, case.neuron, overwrite, spike_dtype=spike_dtype)


def norm_problems(case: Case, run: Callable[..., Fired], *, overwrite: bool = False) -> list:
    """The same without neurons."""
    return _fire_problems(case, run, None, overwrite)


def spike_problems(case: Case, run: Callable[..., Fired]) -> list:
    """The same for spikes alone."""
    return _fire_problems(case, run, case.neuron, False, sums=False)


def _fire_problems(
    case: Case, run: Callable[..., Fired], neuron: Neuron | None, overwrite: bool, **options: object
) -> list:
    T, source = case.shape[0], case.source(overwrite)
    wide = changed(source, Tensor.double)
    truth = reference.fire(wide, neuron, T, **options)
    plain = reference.fire(source, neuron, T, **options)
    spent = changed(source, Tensor.clone)
    own = run(spent, neuron, T, **options)
    x = reference.fire(wide, None, T).train
    problems = exceeded(own, plain, truth, None if neuron is None else decided_neurons(case, x))
    _, _, is_in_place = source.place(neuron, T, options.get("spike_dtype"))
    before, after = (
        [*s.current[1 if is_in_place else 0 :], *(s.residual or ())] for s in (source, spent)
    )
    pairs = zip(before, after, strict=True)
    if any(old is not None and not old.equal(new) for old, new in pairs):
        problems.append("its source has changed")
    return problems


def decided_neurons(case: Case, x: Tensor) -> Tensor:
    """Which neurons (B, C, H, W) no rounding can make fire, or not fire, at another step.

    Args: x, their input current (T or 1, B, C, H, W) in float64.
    """
    neuron, u = case.neuron, torch.zeros_like(x[0])
    decided = torch.ones_like(u, dtype=torch.bool)
    for x_t in x.expand(case.shape[0], *x.shape[1:]):
        v = neuron.decay * u + x_t
        decided &= (v - neuron.threshold).abs() > UNDECIDED
        fires = (v >= neuron.threshold).double()
        u = neuron.reset(v, fires)
    return decided


def backward_problems(
    case: Case,
    run: Callable[..., Gradients],
    *,
    from_batch: bool,
    wants_source: bool,
    fires: bool,
    kept: torch.dtype | None = None,
    dtype: torch.dtype | None = None,
) -> list:
    """The same for `fire_backward`; y is centred at its batch mean, as after a convolution.

    kept: dtype in which y and the eligibility were kept for it; dtype: in which the current's
    gradient is wanted; None: that of the gradient.
    """
    wide = functional.accumulation_dtype(case.dtype)
    source = case.source()
    y = source.current.values.mean(0).to(kept or wide)
    grad = source.residual.values[0].to(wide)
    eligibility = y.to(wide).sigmoid().to(y.dtype) if fires else None
    mean, variance = functional.batch_statistics(y.double())
    gamma = torch.linspace(0.5, 1.5, case.shape[2])
    norm = [value.to(wide) for value in (gamma, mean, variance.rsqrt())]

    def result(function: Callable[..., Gradients], *, in_float64: bool = False) -> Gradients:
        maps, values, of_current = (grad, eligibility, y), norm, dtype
        if in_float64:
            maps = [None if m is None else m.double() for m in maps]
            values, of_current = [value.double() for value in norm], None
        of_norm = Normalisation(*values, from_batch)
        return function(*maps, of_norm, wants_source, dtype=of_current)

    plain = result(reference.fire_backward)
    return exceeded(result(run), plain, result(reference.fire_backward, in_float64=True))


def exceeded(
    own: Fired | Gradients,
    plain: Fired | Gradients,
    truth: Fired | Gradients,
    where: Tensor | None = None,
) -> list:
    """(name, error, allowed) wherever own is further from the truth than allowed; and what is
    there but should not be, is missing, or has another dtype or shape than plain.

    where: the neurons (B, C, H, W) that are compared; None compares all.
    """
    found = []
    for name, result, expected, exact in zip(plain._fields, own, plain, truth, strict=True):
        if kind(result) != kind(expected):
            found.append((name, kind(result), kind(expected)))
            continue
        if expected is None:
            continue
        if where is not None:
            result, expected, exact = (maps * where for maps in (result, expected, exact))
        error, plain_error = errors((result, expected), (exact, exact))
        eps = torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0.0
        allowed = 2 * plain_error + 4 * eps * float(exact.abs().max())
        if not error <= allowed:
            found.append((name, error, allowed))
    return found


def kind(value: Tensor | None) -> str:
    return "nothing" if value is None else f"{value.dtype} {tuple(value.shape)}"
