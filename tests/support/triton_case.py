"""What the tests of the Triton kernels run in another process, and how they compile without a GPU.

Triton and the kernels are imported inside the functions: the importing process decides whether
they are interpreted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

from benchmark.reference.kernel_case import RESETS, Case
from benchmark.reference.norm_case import NormCase, norm_case_problems
from model.kernel.record import NormState
from tests.support.kernel_problems import all_backward_problems, fire_problems

H100 = ("cuda", 90, 32)  # backend, compute capability, threads of a warp
INTEGERS = ("N", "inner", "channels", "M", "pixels", "part_rows", "parts", "count")
MAPS = ("current", "residual", "train", "y", "mean_current", "eligibility", "grad_y", "maps")
TYPES = {"counts": "u8", "batches": "i64"}  # all other maps are fp32 or better
WITHOUT = {  # parameters of the kernel that fires which are None
    "fire": (),
    "spikes": ("rate", "eligibility", "mean_current", "counts", "scale", "shift"),
    "norm": ("decay", "threshold", "v_reset", "detach_reset", "rate", "eligibility", "counts"),
}
OTHERS = ("sum", "apply", "moments", "merge", "statistics")
NO_STATE = NormState._fields  # parameters that are None where statistics alone are wanted


@contextmanager
def compiled_where_launched() -> Iterator[Counter[str]]:
    """In here what CPU tensors ask of the Triton kernels is compiled for an H100, with all that a
    launch there would be specialised on, and nothing is run; yields the launches, by kernel."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from model.kernel import operator
    from model.kernel import triton as kernels

    compile_or_run, launches = JITFunction.run, Counter()

    def compile_only(kernel, *arguments, **options):
        launches[kernel.__name__] += 1
        return compile_or_run(kernel, *arguments, **options | {"warmup": True})

    gpu = {
        "get_current_target": lambda: GPUTarget(*H100),
        "get_current_device": lambda: 0,
        "get_current_stream": lambda device: 0,
    }
    with (
        patch.object(driver, "_active", SimpleNamespace(**gpu)),
        patch.object(JITFunction, "run", compile_only),
        patch.object(operator, "_kernels", lambda tensor: kernels),
    ):
        yield launches


def run_forward_case(case: Case) -> list:
    from model.kernel.triton import fire

    return fire_problems(case, fire)


def is_in_place(case: Case) -> bool:
    """Whether the train takes the memory of a current that may be reused."""
    from model.kernel.triton import fire

    source = case.source(reusable=True)
    train = fire(source, case.neuron, case.shape[0]).train
    return train.data_ptr() == source.current.values.data_ptr()


def run_backward_case(case: Case) -> list:
    """With tiles that do not divide the maps, of which several make a part, and several parts."""
    from model.kernel import triton_backward as kernels

    kernels.TILE_ROWS, kernels.TILE_CHANNELS, kernels.MAX_PROGRAMS = 16, 4, 6
    return all_backward_problems(case, kernels.fire_backward)


def run_norm_case(case: NormCase) -> list:
    """With small tiles, of which several make a part, and several parts."""
    from model.kernel import triton_moments as kernels

    kernels.TILE_ROWS, kernels.TILE_CHANNELS, kernels.MAX_PROGRAMS = 8, 4, 6
    return norm_case_problems(case, kernels.batch_statistics, kernels.norm_constants)


def compile_for_gpu(
    kernel: str, dtype: str, *, T: int = 4, reset: str = "soft detached", in_training: bool = False
) -> dict[str, str]:
    """A kernel for an H100 ("ttir", "ptx", ...), with maps in `dtype` ("fp32", "bf16", ...).

    kernel: a key of WITHOUT, or one of OTHERS.
    in_training: specialised as for 64 channels in channels_last layout, with sizes and addresses
    that 16 divides.
    """
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from model.kernel import triton as forward
    from model.kernel import triton_backward as backward
    from model.kernel import triton_moments as of_norm

    others = {
        "sum": backward._sum_kernel,
        "apply": backward._apply_kernel,
        "moments": of_norm._moments_kernel,
        "merge": of_norm._merge_kernel,
        "statistics": of_norm._merge_kernel,
    }
    function = others.get(kernel, forward._fire_kernel)
    constants = {
        "T": T,
        "current_steps": T,
        "residual_steps": T,
        **RESETS[reset]._asdict(),
        "dtype": tl.float64 if dtype == "fp64" else tl.float32,
        "block": forward.BLOCK,
        "channels_inside": True,
        "from_batch": True,
        "tile_rows": backward.TILE_ROWS,
        "tile_channels": backward.TILE_CHANNELS,
        "rows_per_program": 16 * backward.TILE_ROWS,
        "tiles": 32,
        "tile_parts": of_norm.MAX_PROGRAMS,
        "eps": 1e-5,
        "momentum": 0.1,
    }
    if function is of_norm._moments_kernel:
        constants["tile_rows"] = of_norm.TILE_ROWS
    if function is of_norm._merge_kernel:
        constants["tile_channels"] = of_norm.MERGED_CHANNELS
    constants |= dict.fromkeys(NO_STATE if kernel == "statistics" else WITHOUT.get(kernel, ()))
    if in_training:
        constants["inner"] = 1
    signature, positions, hints = {}, {}, {}
    for position, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            positions[(position,)] = constants[name]
            continue
        in_dtype = name in MAPS or dtype == "fp64"
        kind = TYPES.get(name) or (dtype if in_dtype else "fp32")
        signature[name] = "i32" if name in INTEGERS else f"*{kind}"
        if in_training:
            hints[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=function, signature=signature, constexprs=positions, attrs=hints)
    return triton.compile(source, target=GPUTarget(*H100)).asm
