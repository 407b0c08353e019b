"""C++ operators of this package, compiled when they are first needed and then kept.

PyTorch's own loader of extensions is not used: it needs one more program, it compiles for the one
processor at hand, and a process that is killed while it compiles leaves a lock there that makes the
next ones wait for ever.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

import torch

# Instructions by what PyTorch finds on this processor.
INSTRUCTIONS = {
    "AVX512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
    "AVX2": ["-mavx2", "-mfma"],
}
TIMEOUT = 600  # seconds that the compiler may take
FAILURES = (OSError, ImportError, subprocess.SubprocessError)


def load(source: Path) -> str | None:
    """Register the operators of a C++ file; returns why that was not possible, or None.

    The library is compiled into PyTorch's folder for extensions (TORCH_EXTENSIONS_DIR, or below the
    user's cache), and anew if what lies there cannot be loaded.
    """
    try:
        library = library_of(source)
        if library.exists():
            try:
                torch.ops.load_library(library)
                return None
            except OSError:  # made by another system that shares this folder
                library.unlink(missing_ok=True)
        _compile(source, library)
        torch.ops.load_library(library)
    except FAILURES as error:
        return _reason(error)
    return None


def library_of(source: Path) -> Path:
    """Where the library for this source, PyTorch, compiler and processor is kept."""
    from torch.utils.cpp_extension import get_default_build_root

    version = _run([*_compiler(), "--version"])
    system = platform.machine(), *platform.libc_ver()
    code = source.read_text(encoding="utf-8")
    parts = code, torch.__version__, *_compiler(), version, *system, *_flags()
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()
    return Path(root) / f"{source.stem}_{key}.so"


def _compiler() -> list[str]:
    from torch.utils.cpp_extension import get_cxx_compiler

    return shlex.split(get_cxx_compiler())


def _flags() -> list[str]:
    capability = torch.backends.cpu.get_cpu_capability()
    instructions = next((own for name, own in INSTRUCTIONS.items() if name in capability), [])
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    return ["-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", abi, *instructions]


def _compile(source: Path, library: Path) -> None:
    """Compile into a file that takes its name when it is whole.

    Where two processes do so at once, the first file stays, since its maker may have loaded it.
    """
    from torch.utils.cpp_extension import include_paths, library_paths

    library.parent.mkdir(parents=True, exist_ok=True)
    print(f"compiling {source.name}, once, in about ten seconds", flush=True)
    with tempfile.TemporaryDirectory(prefix=f"{source.stem}_", dir=library.parent) as folder:
        unfinished = Path(folder) / library.name
        command = [*_compiler(), *_flags(), str(source), "-o", str(unfinished)]
        command += [f"-I{path}" for path in include_paths("cpu")]
        command += [f"-L{path}" for path in library_paths("cpu")]
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
