"""What the tests of the Triton kernels run in another process, and how they compile without a GPU.

Triton and the kernels are imported inside the functions: the importing process decides whether
they are interpreted.
"""

from __future__ import annotations

from benchmark.reference.kernel_case import RESETS, Case
from tests.support.kernel_problems import all_backward_problems, fire_problems

H100 = ("cuda", 90, 32)  # backend, compute capability, threads of a warp
INTEGERS = ("N", "inner", "channels", "M", "pixels")
MAPS = ("current", "residual", "train", "y")  # the others are fp32 or better
WITHOUT = {  # parameters of the kernel that fires which are None
    "fire": (),
    "spikes": ("rate", "eligibility", "mean", "scale", "shift"),
    "norm": ("decay", "threshold", "v_reset", "detach_reset", "rate", "eligibility"),
}


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
    """With tiles that do not divide the maps."""
    from model.kernel import triton_backward as kernels

    kernels.TILE_ROWS, kernels.TILE_CHANNELS, kernels.ROWS_PER_PROGRAM = 16, 4, 48
    return all_backward_problems(case, kernels.fire_backward)


def compile_for_gpu(
    kernel: str, dtype: str, *, T: int = 4, reset: str = "soft detached", in_training: bool = False
) -> dict[str, str]:
    """A kernel for an H100 ("ttir", "ptx", ...), with maps in `dtype` ("fp32", "fp64" or "bf16").

    kernel: a key of WITHOUT, "sum" or "apply".
    in_training: specialised as for 64 channels in channels_last layout, with sizes and addresses
    that 16 divides.
    """
    import triton
    import triton.language as tl
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from model.kernel import triton as forward
    from model.kernel import triton_backward as backward

    backwards = {"sum": backward._sum_kernel, "apply": backward._apply_kernel}
    function = backwards.get(kernel, forward._fire_kernel)
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
        "rows_per_program": backward.ROWS_PER_PROGRAM,
    }
    constants |= dict.fromkeys(WITHOUT.get(kernel, ()))
    if in_training:
        constants["inner"] = 1
    signature, positions, hints = {}, {}, {}
    for position, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            positions[(position,)] = constants[name]
            continue
        in_dtype = name in MAPS or dtype == "fp64"
        signature[name] = "i32" if name in INTEGERS else "*" + (dtype if in_dtype else "fp32")
        if in_training:
            hints[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=function, signature=signature, constexprs=positions, attrs=hints)
    return triton.compile(source, target=GPUTarget(*H100)).asm
