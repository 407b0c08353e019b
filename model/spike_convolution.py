"""Convolutions of spike trains on a CPU that skip silent inputs: exact weights, no multiplications.

A spike is 0 or 1, so that a convolution only adds up the weights of the inputs that fire; where
few do, that takes less time than a dense convolution. The work is done by `spike_convolution.cpp`,
which is compiled when it is first needed and then kept in PyTorch's folder for extensions. Where
that is not possible a line says so, once, and convolutions are dense.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".cpp")
# Instructions by what PyTorch finds on this processor; "native" would tie the file to one machine.
INSTRUCTIONS = {"AVX512": ["-march=x86-64-v4"], "AVX2": ["-march=x86-64-v3"]}
TIMEOUT = 600  # seconds that the compiler may take


def convolve(
    spikes: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """`conv2d` of spikes, outside the graph.

    Args: spikes (N, Ci, H, W), bytes that are 0 or 1; the others as of
    `torch.nn.functional.conv2d`. Returns: (N, C, H', W') in the weight's dtype.
    Dense where the silent inputs cannot be skipped: on other devices than a CPU, with groups or
    dilation, under autocast, in other dtypes than fp32 and fp64, or without a compiler.
    """
    fits = (
        spikes.device.type == "cpu"
        and dilation == (1, 1)
        and groups == 1
        and weight.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and is_available()
    )
    if not fits:
        return F.conv2d(spikes.to(weight.dtype), weight, bias, stride, padding, dilation, groups)
    run = torch.ops.spiking_cpu.spike_convolution
    return run(spikes, weight.detach(), None if bias is None else bias.detach(), stride, padding)


@torch.compiler.assume_constant_result
def is_available() -> bool:
    """Whether the compiled operator can be used; compiles it at the first call."""
    return _load()


@cache
def _load() -> bool:
    try:
        library = _library()
        if not library.exists():
            _compile(library)
        torch.ops.load_library(library)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"convolutions of spikes stay dense, and slower: {_reason(error)}")
        return False
    torch.library.register_fake(
        "spiking_cpu::spike_convolution", _shape_of_result, allow_override=True
    )
    return True


def _reason(error: Exception) -> str:
    """In one line, why there is no compiled operator."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode(errors="replace").splitlines()
        first = next((line for line in lines if "error" in line), "no message")
        return f"{error.cmd[0]} failed ({first})"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} took longer than {error.timeout} s"
    return str(error)


def _shape_of_result(spikes, weight, bias, stride, padding):
    sizes = (
        (size + 2 * p - k) // s + 1
        for size, k, s, p in zip(spikes.shape[2:], weight.shape[2:], stride, padding, strict=True)
    )
    out = weight.new_empty((spikes.shape[0], weight.shape[0], *sizes))
    return out.contiguous(memory_format=torch.channels_last)


def _flags() -> list[str]:
    capability = torch.backends.cpu.get_cpu_capability()
    instructions = next((own for name, own in INSTRUCTIONS.items() if name in capability), [])
    return ["-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", *instructions]


def _library() -> Path:
    """Where the compiled operator for this source, PyTorch, compiler and processor is kept."""
    from torch.utils.cpp_extension import get_cxx_compiler, get_default_build_root

    parts = (SOURCE.read_text(), torch.__version__, platform.machine(), get_cxx_compiler())
    key = hashlib.sha256("\n".join([*parts, *_flags()]).encode()).hexdigest()[:16]
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()
    return Path(root) / f"spike_convolution_{key}.so"


def _compile(library: Path) -> None:
    """Compile the source into a file that takes its name when it is whole.

    PyTorch's own loader is not used, since it needs one more program, and since a process that is
    killed while it compiles leaves a lock that makes the next ones wait for ever.
    """
    from torch.utils.cpp_extension import get_cxx_compiler, include_paths, library_paths

    library.parent.mkdir(parents=True, exist_ok=True)
    print(f"compiling {SOURCE.name}, once, in about ten seconds", flush=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        unfinished = Path(folder) / library.name
        command = [get_cxx_compiler(), *_flags(), str(SOURCE), "-o", str(unfinished)]
        command += [f"-I{path}" for path in include_paths("cpu")]
        command += [f"-L{path}" for path in library_paths("cpu")]
        command += ["-lc10", "-ltorch_cpu", "-ltorch"]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT)
        os.replace(unfinished, library)
