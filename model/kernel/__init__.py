"""The hot functions: one record in, one record out, and the one place that chooses who runs them.

record      what goes in and what comes out
reference   on the equations of `functional`
choice      which implementation runs: all that the rest of model/ calls
operator    the hand-written ones as custom operators: cpu, triton (with triton_backward and
            triton_moments); map_rows and triton_tile, how they see a map
compiled    through torch.compile
sparse/     convolutions of spike trains that skip silent inputs
"""

from model.kernel.choice import (
    DEFAULT_EXECUTION,
    Execution,
    batch_statistics,
    convolve,
    fire,
    fire_backward,
    norm_constants,
    settled,
    spikes,
)
from model.kernel.record import Fired, Maps, Normalisation, NormState, Source
