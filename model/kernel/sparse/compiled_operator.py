"""C++ operators of this package, compiled when they are first needed and then kept.

PyTorch's own loader of extensions is not used: it needs one more program, it compiles for the one
processor at hand, and a process that is killed while it compiles leaves a lock there that makes the
next ones wait for ever.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

# Instructions by what PyTorch finds on this processor.
INSTRUCTIONS = {
    "AVX512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
    "AVX2": ["-mavx2", "-mfma"],
}
TIMEOUT = 600  # seconds that the compiler may take
FAILURES = (OSError, ImportError, ValueError, subprocess.SubprocessError)  # ValueError: of CXX


def load(folder: Path) -> str | None:
    """Register the operators of a folder's C++ files; returns why that was not possible, or None.

    The library is compiled into PyTorch's folder for extensions (TORCH_EXTENSIONS_DIR, or below the
    user's cache), and anew if what lies there cannot be loaded.
    """
    try:
        library = library_of(folder)
        if library.exists():
            try:
                torch.ops.load_library(library)
                return None
            except OSError:  # made by another system that shares this folder
                library.unlink(missing_ok=True)
        _compile(_sources(folder), library)
        torch.ops.load_library(library)
    except FAILURES as error:
        return _reason(error)
    return None


def library_of(folder: Path) -> Path:
    """Where the library for these sources, PyTorch, compiler and processor is kept."""
    version = _run([*_compiler(), "--version"])
    system = platform.machine(), *platform.libc_ver()
    code = [path.read_text(encoding="utf-8") for path in _sources(folder, "*.h", "*.cpp")]
    parts = *code, torch.__version__, *_compiler(), version, *system, *_flags()
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or _torch_builds().get_default_build_root()
    return Path(root) / f"{folder.name}_{key}.so"


def _sources(folder: Path, *patterns: str) -> list[Path]:
    return [path for pattern in patterns or ("*.cpp",) for path in sorted(folder.glob(pattern))]


def _torch_builds() -> ModuleType:
    """PyTorch's tools for extensions, which on import miss a GPU that nothing here needs."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils import cpp_extension

    return cpp_extension


def _compiler() -> list[str]:
    return shlex.split(_torch_builds().get_cxx_compiler())


def _flags() -> list[str]:
    capability = torch.backends.cpu.get_cpu_capability()
    instructions = next((own for name, own in INSTRUCTIONS.items() if name in capability), [])
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    # A product is rounded before it is added, as in plain PyTorch; comparisons may be vectorised.
    arithmetic = ["-ffp-contract=off", "-fno-trapping-math"]
    return ["-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", abi, *arithmetic, *instructions]


def _compile(sources: Sequence[Path], library: Path) -> None:
    """Compile into a file that takes its name when it is whole.

    Where two processes do so at once, the first file stays, since its maker may have loaded it.
    """
    library.parent.mkdir(parents=True, exist_ok=True)
    names = ", ".join(source.name for source in sources)
    print(f"compiling {names}, once, in about twenty seconds", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=f"{library.stem}_", dir=library.parent) as folder:
        unfinished = Path(folder) / library.name
        command = [*_compiler(), *_flags(), *map(str, sources), "-o", str(unfinished)]
        command += [f"-I{path}" for path in _torch_builds().include_paths("cpu")]
        command += [f"-L{path}" for path in _torch_builds().library_paths("cpu")]
        command += ["-lc10", "-ltorch_cpu", "-ltorch"]
        _run(command)
        with open(unfinished, "rb") as written:
            os.fsync(written.fileno())
        try:
            os.link(unfinished, library)
        except FileExistsError:
            return
        except OSError:  # a file system without links
            os.replace(unfinished, library)


def _run(command: list[str]) -> str:
    """What a command prints, in English. Raises: one of FAILURES."""
    english = {**os.environ, "LC_ALL": "C"}
    options = {"check": True, "capture_output": True, "timeout": TIMEOUT, "env": english}
    return subprocess.run(command, **options).stdout.decode(errors="replace")


def _reason(error: Exception) -> str:
    """In one line, why there is no compiled operator."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode(errors="replace").splitlines()
        first = next((line for line in lines if "error" in line), "no message")
        return f"{error.cmd[0]} failed ({first})"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} took longer than {error.timeout} s"
    return " ".join(str(error.__cause__ or error).split())
