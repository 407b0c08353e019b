"""The hot functions: one record in, one record out, and the one place that chooses who runs them.

record      what goes in and what comes out
reference   on the equations of `functional`
choice      which implementation runs: all that the rest of model/ calls
operator    the hand-written ones as custom operators: cpu, triton (with triton_backward and
            triton_moments); map_rows and triton_tile, how they see a map
compiled    through torch.compile
sparse/     spikes as bytes, convolutions that skip the silent ones, and their gradients
"""

from model.kernel.choice import (
    DEFAULT_EXECUTION,
    Execution,
    arrange,
    batch_statistics,
    can_fire_bytes,
    can_skip,
    convolve,
    convolve_backward,
    fire,
    fire_backward,
    fire_bytes,
    norm_constants,
    settled,
    skips_silence,
    spikes,
)
from model.kernel.record import Fired, Maps, Normalisation, NormState, Source
