"""Operators are compiled once, by whichever process is first; without a compiler a line says why.

What really compiles runs in processes of its own, since a process loads a library once.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils import cpp_extension

from model import kernel
from model.convolution import Convolution, Geometry
from model.kernel.sparse import compiled_operator, library
from tests.support.compiler import needs_compiler

ROOT = Path(__file__).parents[4]
SOURCES = library.FOLDER
ADD_ONE = """
extern "C" int add_one(int x) { return x + 1; }
"""
USE = """
import ctypes, sys
from pathlib import Path
from model.kernel.sparse import compiled_operator
sources = Path(sys.argv[1])
reason = compiled_operator.load(sources)
print(reason, ctypes.CDLL(compiled_operator.library_of(sources)).add_one(1))
"""


@pytest.fixture
def empty_folder(monkeypatch, tmp_path):
    """Nothing is compiled yet, and what is will go to an empty folder."""
    folder = tmp_path / "extensions"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    library._load.cache_clear()
    yield folder
    library._load.cache_clear()


def start(sources: Path) -> subprocess.Popen:
    """A process that uses what is compiled."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", USE, sources]
    return subprocess.Popen(command, env=environment, cwd=ROOT, **options)


def said_by(process: subprocess.Popen) -> tuple[str, bool]:
    """What it printed, and whether it said that it compiles."""
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return output, "compiling one.cpp, once, in about" in error


@needs_compiler
@pytest.mark.slow
def test_is_compiled_once_and_again_when_it_cannot_be_loaded(empty_folder, tmp_path):
    """By two processes at once, read by a third; then in place of what is no library."""
    sources, used = tmp_path / "sources", "None 2\n"
    sources.mkdir()
    (sources / "one.cpp").write_text(ADD_ONE)
    found = [said_by(process) for process in [start(sources), start(sources)]]
    assert {output for output, _ in found} == {used} and any(compiled for _, compiled in found)
    (kept,) = empty_folder.iterdir()
    assert said_by(start(sources)) == (used, False)
    kept.write_bytes(b"from another system" * 1000)
    assert said_by(start(sources)) == (used, True)
    assert list(empty_folder.iterdir()) == [kept]


COMPILERS = {
    "no-such-compiler -x": "No such file or directory: 'no-such-compiler'",
    "false": "false failed (no message)",
}


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_without_a_compiler_convolutions_are_dense(compiler, monkeypatch, capsys):
    """One line says why; the result is right."""
    monkeypatch.setattr(cpp_extension, "get_cxx_compiler", lambda: compiler)
    spikes, weight = torch.ones(1, 2, 4, 4, dtype=torch.uint8), torch.randn(3, 2, 3, 3)
    convolution = Convolution(weight, None, Geometry(padding=(1, 1)))
    for _ in range(2):
        out = kernel.convolve(spikes, convolution)
        assert out.equal(F.conv2d(spikes.float(), weight, None, 1, 1))
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("convolutions of spikes are dense: ") and printed.out == ""
    assert line.endswith(COMPILERS[compiler])


@needs_compiler
def test_a_source_that_does_not_compile_leaves_nothing(tmp_path, empty_folder):
    source = tmp_path / "wrong.cpp"
    source.write_text("int f() { return nothing; }")
    reason = compiled_operator.load(tmp_path)
    assert "failed (" in reason and "error" in reason and "nothing" in reason
    assert list(empty_folder.iterdir()) == []


def test_a_compiler_that_hangs_is_given_up(monkeypatch, tmp_path):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(compiled_operator, "library_of", lambda folder: tmp_path / "new" / "x.so")
    monkeypatch.setattr(subprocess, "run", hang)
    assert "took longer than 600 s" in compiled_operator.load(SOURCES)
    assert list((tmp_path / "new").iterdir()) == []


@needs_compiler
def test_another_source_or_processor_has_a_file_of_its_own(monkeypatch, tmp_path):
    own, changed = compiled_operator.library_of(SOURCES), tmp_path / SOURCES.name
    shutil.copytree(SOURCES, changed)
    assert compiled_operator.library_of(changed) == own
    sources = [*changed.glob("*.cpp"), *changed.glob("*.h")]
    assert {source.suffix for source in sources} == {".cpp", ".h"}
    for source in sources:
        text = source.read_text()
        source.write_text(text + "\n")
        assert compiled_operator.library_of(changed) != own
        source.write_text(text)
    monkeypatch.setattr(compiled_operator, "INSTRUCTIONS", {"": ["-O1"]})
    assert compiled_operator.library_of(SOURCES) != own
