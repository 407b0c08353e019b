"""Which package may import which, over the whole tree; and that imports do nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"model", "util", "experiment", "benchmark", "tests"}
ALLOWED = {
    "model": {"model"},
    "util": {"util"},
    "experiment": {"experiment", "model", "util"},
    "benchmark": {"benchmark", "experiment", "model", "util"},
}
OPTIONAL = {
    "benchmark/input.py": {"sklearn"},
    "experiment/dvs/integrate.py": {"spikingjelly"},
    "experiment/dvs/simulated.py": {"sklearn"},
    "experiment/dvs/source.py": {"spikingjelly"},
    "experiment/dvs/split.py": {"sklearn"},
    "experiment/progress_bar.py": {"progress"},
    "experiment/trained/export.py": {"nir"},
    "experiment/trained/exported.py": {"safetensors"},
    "experiment/trained/nir_graph.py": {"nir"},
    "experiment/trained/operations.py": {"spikingjelly"},
    "util/data.py": {"sklearn"},
    "util/dataset.py": {"sklearn"},
}
FILES = {package: sorted((ROOT / package).rglob("*.py")) for package in ALLOWED}


def imported(source, package):
    """Top-level names of all that a source imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield package if node.level else node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            name = name.values[0] if isinstance(name, ast.JoinedStr) else name  # f"package.{...}"
            yield name.value.partition(".")[0]


def test_the_rule_finds_every_kind_of_import():
    source = "import a.b as c\ndef f():\n  from d.e import g\n  import h\nfrom . import i"
    assert set(imported(source, "here")) == {"a", "d", "h", "here"}
    assert set(imported("importlib.import_module('j.k')", "here")) == {"j"}
    assert set(imported("import_module(f'l.{m}.n')", "here")) == {"l"}


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_in_one_direction(package):
    assert len(FILES[package]) > 10
    wrong = [
        f"{path.relative_to(ROOT)} imports {other}"
        for path in FILES[package]
        for other in sorted(set(imported(path.read_text(), package)) & OURS - ALLOWED[package])
    ]
    assert not wrong, "\n".join(wrong)


def test_packages_beyond_a_plain_image_of_pytorch_are_taken_here_alone():
    plain = OURS | {"torch", "torchvision", "numpy", "matplotlib", "PIL", "triton"}
    found = {
        str(path.relative_to(ROOT)): others
        for package, paths in FILES.items()
        for path in paths
        if (others := set(imported(path.read_text(), package)) - plain - sys.stdlib_module_names)
    }
    assert found == OPTIONAL


def test_experiments_do_not_import_each_other():
    experiments = {path.parent.name for path in (ROOT / "experiment").glob("*/main.py")}
    assert {"cifar", "dvs"} <= experiments
    for path in FILES["experiment"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("experiment."):
                part = node.module.split(".")[1]
                own = path.relative_to(ROOT / "experiment").parts[0]
                # The command that evaluates trained networks builds every experiment's.
                allowed = part not in experiments or own in (part, "trained")
                assert allowed, f"{path.relative_to(ROOT)} imports {node.module}"


SIDE_EFFECTS = """
import os, random, sys
import numpy, torch

def environment():  # without what torch itself keeps there
    return {name: value for name, value in os.environ.items() if not name.startswith("TORCH")}

before = (
    torch.get_rng_state().tolist(), random.getstate(), numpy.random.get_state()[1].tolist(),
    torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.get_default_dtype(),
    os.getcwd(), environment(), sorted(os.listdir()), torch.is_grad_enabled(),
)
sys.argv = ["program", "--no-such-flag"]
import MODULE
after = (
    torch.get_rng_state().tolist(), random.getstate(), numpy.random.get_state()[1].tolist(),
    torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.get_default_dtype(),
    os.getcwd(), environment(), sorted(os.listdir()), torch.is_grad_enabled(),
)
assert before == after
assert not torch.cuda.is_initialized()
print([name for name in ("spikingjelly", "matplotlib") if name in sys.modules])
"""


@pytest.mark.parametrize("module", ["model", "experiment.cifar.main"])
def test_an_import_does_nothing_else(module, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SIDE_EFFECTS.replace("MODULE", module)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert result.stderr == ""
    assert result.stdout == "[]\n"
