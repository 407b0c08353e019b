"""All that an implementation of the hot functions may be asked, on one case.

`fire` and `fire_backward` have the signatures of `kernel.reference`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch

from benchmark.reference.kernel_case import (
    Case,
    backward_problems,
    forward_problems,
    norm_problems,
    spike_problems,
)

BOTH = (False, True)
SPIKES = (None, torch.uint8, torch.float16)  # dtypes, None for the current's


def fire_problems(case: Case, fire: Callable) -> list:
    """Of firing, of normalisation alone and of spikes alone, with the current's memory or not."""
    problems = spike_problems(case, fire)
    for overwrite in BOTH:
        problems += norm_problems(case, fire, overwrite=overwrite)
        for spike_dtype in SPIKES:
            problems += forward_problems(case, fire, overwrite=overwrite, spike_dtype=spike_dtype)
    return problems


def all_backward_problems(case: Case, fire_backward: Callable) -> list:
    """Of layers with and without neurons, statistics of the batch and a residual; and with what was
    kept, or what the convolution's backward will read, in less than the gradient's dtype."""
    problems = []
    for from_batch, wants_source, fires in product(BOTH, BOTH, BOTH):
        options = {"from_batch": from_batch, "wants_source": wants_source, "fires": fires}
        problems += backward_problems(case, fire_backward, **options)
    for lower in ({"kept": torch.bfloat16}, {"dtype": torch.bfloat16}):
        problems += backward_problems(case, fire_backward, **options, **lower)
    return problems
