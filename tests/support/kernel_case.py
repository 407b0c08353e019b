"""Cases on which every implementation of the hot functions must agree with `functional`.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from model import functional
from model.functional import Fired, Neuron

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

    def sources(self) -> dict[str, Tensor | None]:
        """current, scale, shift, residual, residual_scale, residual_shift."""
        T, B, C, H, W = self.shape
        generator = torch.Generator().manual_seed(0)
        wide = torch.promote_types(self.dtype, torch.float32)

        def values() -> Tensor:
            return (0.5 + torch.rand(C, generator=generator)).to(wide)

        def maps(steps: int) -> Tensor:
            flat = torch.randn(steps * B, C, H, W, generator=generator).to(self.dtype)
            if self.channels_last:
                flat = flat.contiguous(memory_format=torch.channels_last)
            return flat.unflatten(0, (steps, B))

        found: dict[str, Tensor | None] = {
            "current": maps(1 if self.constant else T),
            "scale": values() if self.normed else None,
            "shift": values() - 1 if self.normed else None,
            "residual": None,
            "residual_scale": values() if self.residual == "normed" else None,
            "residual_shift": values() - 1 if self.residual == "normed" else None,
        }
        if self.residual != "none":
            found["residual"] = maps(1 if self.residual == "constant" else T)
        if self.residual == "bytes":
            found["residual"] = (found["residual"] > 0).to(torch.uint8)
        return found


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


def widened(arguments: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if v is None else v.double() for name, v in arguments.items()}


def errors(results: Sequence[Tensor], truths: Sequence[Tensor]) -> list[float]:
    """Largest absolute difference of each result from its float64 truth."""
    pairs = zip(results, truths, strict=True)
    return [float((result.double() - truth).abs().max()) for result, truth in pairs]


def forward_problems(
    case: Case, run: Callable[..., Fired], *, overwrite: bool = False, compact: bool = False
) -> list:
    """What is wrong with an implementation of `norm_lif_rate` on a case; [] if nothing is.

    Its error against float64 may be twice that of plain PyTorch, plus one rounding.
    """
    sources = case.sources()
    steps = {"steps": case.shape[0], "neuron": case.neuron}
    truth = functional.norm_lif_rate(**widened(sources), **steps)
    options = {**steps, "compact": compact}
    plain = functional.norm_lif_rate(**sources, **options)
    spent = {name: None if v is None else v.clone() for name, v in sources.items()}
    own = run(**spent, **options, overwrite=overwrite)
    decided = decided_neurons(case, functional.norm_rate(**widened(sources))[0])
    problems = exceeded(own, plain, truth, names=Fired._fields, where=decided)
    if not overwrite:
        problems += [n for n, v in sources.items() if v is not None and not spent[n].equal(v)]
    for name, result, expected in zip(Fired._fields, own, plain, strict=True):
        if (result.dtype, result.shape) != (expected.dtype, expected.shape):
            problems.append((name, result.dtype, result.shape))
    return problems


def norm_problems(case: Case, run: Callable, *, overwrite: bool = False) -> list:
    """The same for `norm_rate`."""
    sources = case.sources()
    truth = functional.norm_rate(**widened(sources))
    plain = functional.norm_rate(**sources)
    own = run(**sources, overwrite=overwrite)
    return exceeded(own, plain, truth, names=("out", "mean"))


def spike_problems(case: Case, run: Callable[..., Tensor]) -> list:
    """The same for `lif_spikes`."""
    x, steps = case.sources()["current"], case.shape[0]
    own, expected = run(x, steps, case.neuron), functional.lif_spikes(x, steps, case.neuron)
    same = ((own == expected) | ~decided_neurons(case, x.double())).all()
    return [] if same and own.dtype == expected.dtype else ["spikes"]


def decided_neurons(case: Case, current: Tensor) -> Tensor:
    """Which neurons (B, C, H, W) no rounding can make fire, or not fire, at another step.

    Args: current, their normalised input (T or 1, B, C, H, W) in float64.
    """
    neuron, u = case.neuron, torch.zeros_like(current[0])
    decided = torch.ones_like(u, dtype=torch.bool)
    for x in current.expand(case.shape[0], *current.shape[1:]):
        v = neuron.decay * u + x
        decided &= (v - neuron.threshold).abs() > UNDECIDED
        fires = (v >= neuron.threshold).double()
        u = functional.reset(v, fires, neuron.threshold, neuron.v_reset)
    return decided


def backward_problems(
    case: Case,
    run: Callable,
    *,
    from_batch: bool,
    wants_sum: bool,
    fires: bool,
    kept: torch.dtype | None = None,
) -> list:
    """The same for `norm_lif_backward`; y is centred at its batch mean, as after a convolution.

    kept: dtype in which y and the eligibility were kept for it; None: that of the gradient.
    """
    wide = torch.promote_types(case.dtype, torch.float32)
    kept = kept or wide
    y = case.sources()["current"].mean(0).to(kept)
    mean, variance = functional.batch_statistics(y.double())
    arguments = {
        "grad": case.sources()["residual"][0].to(wide),
        "eligibility": y.to(wide).sigmoid().to(kept) if fires else None,
        "y": y,
        "gamma": torch.linspace(0.5, 1.5, case.shape[2], dtype=wide),
        "mean": mean.to(wide),
        "inverse_std": variance.rsqrt().to(wide),
    }
    options = {"from_batch": from_batch, "wants_sum": wants_sum}
    truth = functional.norm_lif_backward(**widened(arguments), **options)
    plain = functional.norm_lif_backward(**arguments, **options)
    own = run(**arguments, **options)
    if not wants_sum:
        assert own[0] is None
        own, plain, truth = own[1:], plain[1:], truth[1:]
    return exceeded(own, plain, truth, names=("g", "g_y", "g_gamma", "g_beta")[-len(own) :])


def exceeded(
    own: Sequence[Tensor],
    plain: Sequence[Tensor],
    truth: Sequence[Tensor],
    names: Sequence[str],
    where: Tensor | None = None,
) -> list[tuple[str, float, float]]:
    """(name, error, allowed) wherever own is further from the truth than allowed.

    where: the neurons (B, C, H, W) that are compared; None compares all.
    """
    found = []
    if where is not None:
        own, plain, truth = ([v * where for v in values] for values in (own, plain, truth))
    both = zip(names, errors(own, truth), errors(plain, truth), plain, truth, strict=True)
    for name, error, plain_error, value, exact in both:
        eps = torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
        rounding = eps * float(exact.abs().max())
        if not error <= 2 * plain_error + 4 * rounding:
            found.append((name, error, 2 * plain_error + 4 * rounding))
    return found
