"""All that an implementation of the hot functions may be asked, on one case.

`fire` and `fire_backward` have the signatures of `kernel.reference`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from benchmark.reference.kernel_case import (
    Case,
    backward_problems,
    forward_problems,
    norm_problems,
    spike_problems,
)

BOTH = (False, True)


def fire_problems(case: Case, fire: Callable) -> list:
    """Of firing, of normalisation alone and of spikes alone, with the current's memory or not."""
    problems = spike_problems(case, fire)
    for overwrite in BOTH:
        problems += norm_problems(case, fire, overwrite=overwrite)
        for compact in BOTH:
            problems += forward_problems(case, fire, overwrite=overwrite, compact=compact)
    return problems


def all_backward_problems(case: Case, fire_backward: Callable) -> list:
    """Of layers with and without neurons, statistics of the batch and a residual."""
    problems = []
    for from_batch, wants_source, fires in product(BOTH, BOTH, BOTH):
        options = {"from_batch": from_batch, "wants_source": wants_source, "fires": fires}
        problems += backward_problems(case, fire_backward, **options)
    return problems
