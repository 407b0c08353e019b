"""What the tests of the Triton kernels run in another process, and how they compile without a GPU.

Triton and the kernels are imported inside the functions: the importing process decides whether
they are interpreted.
"""

from __future__ import annotations

from tests.support.kernel_case import (
    RESETS,
    Case,
    backward_problems,
    forward_problems,
    norm_problems,
    spike_problems,
)

H100 = ("cuda", 90, 32)  # backend, compute capability, threads of a warp


def run_forward_case(case: Case) -> list:
    """Problems of all forward kernels on a case, in this process's Triton."""
    from model import kernel_triton

    problems = spike_problems(case, kernel_triton.lif_spikes)
    for overwrite in (False, True):
        problems += forward_problems(case, kernel_triton.norm_lif_rate, overwrite=overwrite)
        compact = {"overwrite": overwrite, "compact": True}
        problems += forward_problems(case, kernel_triton.norm_lif_rate, **compact)
        if case.normed:
            problems += norm_problems(case, kernel_triton.norm_rate, overwrite=overwrite)
    return problems


def run_backward_case(case: Case, from_batch: bool, fires: bool) -> list:
    """Problems of the backward kernels, with tiles that do not divide the maps."""
    from model import kernel_triton_backward

    kernel_triton_backward.TILE_ROWS, kernel_triton_backward.TILE_CHANNELS = 16, 4
    kernel_triton_backward.ROWS_PER_PROGRAM = 48
    problems = []
    for wants_sum in (True, False):
        problems += backward_problems(
            case, kernel_triton_backward.norm_lif_backward, from_batch=from_batch,
            wants_sum=wants_sum, fires=fires,
        )  # fmt: skip
    return problems


def compile_for_gpu(
    kernel: str, dtype: str, *, T: int = 4, reset: str = "soft detached", in_training: bool = False
) -> dict[str, str]:
    """A kernel for an H100 ("ttir", "ptx", ...), with maps in `dtype` ("fp32", "fp64" or "bf16").

    in_training: specialised as for 64 channels in channels_last layout, with sizes and addresses
    that 16 divides.
    """
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from model import kernel_triton, kernel_triton_backward

    function = {
        "fire": kernel_triton._fire_kernel,
        "spikes": kernel_triton._fire_kernel,
        "norm": kernel_triton._norm_kernel,
        "sum": kernel_triton_backward._sum_kernel,
        "apply": kernel_triton_backward._apply_kernel,
    }[kernel]
    constants = {
        "T": T, "current_steps": T, "residual_steps": T,
        **RESETS[reset]._asdict(),
        "dtype": tl.float64 if dtype == "fp64" else tl.float32, "block": kernel_triton.BLOCK,
        "channels_inside": True, "from_batch": True, "tile_rows": kernel_triton_backward.TILE_ROWS,
        "tile_channels": kernel_triton_backward.TILE_CHANNELS,
        "rows_per_program": kernel_triton_backward.ROWS_PER_PROGRAM,
    }  # fmt: skip
    if kernel == "spikes":
        constants |= {"rate": None, "eligibility": None, "mean": None, "scale": None, "shift": None}
    if in_training:
        constants["inner"] = 1
    integers = ("N", "inner", "channels", "M", "pixels")
    maps = ("current", "residual", "spikes", "out", "y")
    signature, positions, hints = {}, {}, {}
    for position, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            positions[(position,)] = constants[name]
            continue
        is_integer = name in integers
        in_dtype = name in maps or dtype == "fp64"
        signature[name] = "i32" if is_integer else "*" + (dtype if in_dtype else "fp32")
        if in_training:
            hints[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=function, signature=signature, constexprs=positions, attrs=hints)
    return triton.compile(source, target=GPUTarget(*H100)).asm
