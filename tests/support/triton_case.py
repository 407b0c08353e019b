"""What the tests of the Triton kernels run in another process, and how they compile without a GPU.

Triton and the kernels are imported inside the functions: the importing process decides whether
they are interpreted.
"""

from __future__ import annotations

from tests.support.kernel_case import (
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


def compile_for_gpu(kernel: str, dtype: str) -> dict[str, str]:
    """A kernel for an H100 ("ttir", "ptx", ...), with maps in `dtype` ("fp32" or "bf16")."""
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
        "T": 4, "current_steps": 4, "residual_steps": 4, "decay": 0.2, "threshold": 1.0,
        "v_reset": None, "detach_reset": True, "dtype": tl.float32, "block": kernel_triton.BLOCK,
        "channels_inside": True, "from_batch": True, "tile_rows": kernel_triton_backward.TILE_ROWS,
        "tile_channels": kernel_triton_backward.TILE_CHANNELS,
        "rows_per_program": kernel_triton_backward.ROWS_PER_PROGRAM,
    }  # fmt: skip
    if kernel == "spikes":
        constants |= {"rate": None, "eligibility": None, "mean": None, "scale": None, "shift": None}
    integers = ("N", "inner", "channels", "M", "pixels")
    maps = ("current", "residual", "spikes", "out", "y")
    signature, positions = {}, {}
    for position, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            positions[(position,)] = constants[name]
        elif name in integers:
            signature[name] = "i32"
        else:
            signature[name] = "*" + (dtype if name in maps else "fp32")
    source = ASTSource(fn=function, signature=signature, constexprs=positions)
    return triton.compile(source, target=GPUTarget(*H100)).asm
