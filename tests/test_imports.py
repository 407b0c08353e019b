"""Which file may import which, over the whole tree; and that imports do nothing else."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
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
    "benchmark/comparison/statistic.py": {"scipy"},
    "benchmark/speed/inference.py": {"spikingjelly"},
    "benchmark/speed/input.py": {"sklearn"},
    "experiment/dvs/integrate.py": {"spikingjelly"},
    "experiment/dvs/recording/simulation.py": {"sklearn"},
    "experiment/dvs/recording/source.py": {"spikingjelly"},
    "experiment/trained/part/exported.py": {"safetensors"},
    "experiment/trained/part/formats.py": {"nir"},
    "experiment/trained/part/nir_graph.py": {"nir"},
    "experiment/trained/part/onnx_model.py": {"onnxruntime"},
    "experiment/trained/part/operations.py": {"spikingjelly"},
    "util/image/image_sets.py": {"sklearn"},
    "util/process/progress.py": {"progress"},
    "util/stratify.py": {"sklearn"},
}
FILES = {  # module: file
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ALLOWED
    for path in sorted((ROOT / package).rglob("*.py"))
}
# Within model/: the files outside its rooms (its folders) are the paper, top to bottom.
SEEN_BY_KERNELS = {"model.functional", "model.convolution"}
SEE_EVERY_ROOM = {"model.method", "model.registry"}  # tables of all methods, networks, teachers


def top(module: str) -> str:
    return module.partition(".")[0]


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Modules in import statements; `from a import b` is of a.b if that is a module of ours."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import by a relative name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else node.module for name in names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0]
            name = name.values[0] if isinstance(name, ast.JoinedStr) else name  # f"package.{...}"
            yield name.value.rstrip(".")


def at_module_level(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: nothing in functions or for a type checker alone."""
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not is_function and not is_for_types:
            yield child
            yield from at_module_level(child)


ANYWHERE, AT_IMPORT = {}, {}
for module, path in FILES.items():
    tree = ast.parse(path.read_text())
    ANYWHERE[module] = set(imported(ast.walk(tree)))
    AT_IMPORT[module] = set(imported(at_module_level(tree)))


def wrong_imports(is_allowed: Callable[[str, str], bool]) -> str:
    """A line for every import of one module by another that a rule does not allow."""
    pairs = ((module, target) for module, found in ANYWHERE.items() for target in sorted(found))
    return "\n".join(f"{m} imports {target}" for m, target in pairs if not is_allowed(m, target))


def test_an_import_is_found_wherever_it_stands():
    source = """
import model.layer as other, a.b
from model import kernel, build_model
if TYPE_CHECKING:
    from model.method import METHODS
try:
    from model.kernel import Execution, record
except ImportError:
    from torch import nn
def late():
    from model.zoo.vgg import VGG
    importlib.import_module("j.k"), import_module(f"l.{m}.n")
"""
    tree = ast.parse(source)
    outside = {"model.layer", "a.b", "model.kernel", "model", "model.kernel.record", "torch"}
    assert set(imported(at_module_level(tree))) == outside
    late = {"model.method", "model.zoo.vgg", "j.k", "l"}
    assert set(imported(ast.walk(tree))) == outside | late


def test_packages_import_in_one_direction():
    assert all(sum(top(module) == package for module in FILES) > 10 for package in ALLOWED)
    wrong = wrong_imports(lambda m, target: top(target) in ALLOWED[top(m)] | ({top(target)} - OURS))
    assert not wrong, wrong


def test_packages_beyond_a_plain_image_of_pytorch_are_taken_here_alone():
    plain = OURS | {"torch", "torchvision", "numpy", "matplotlib", "PIL", "triton"}
    found = {
        str(FILES[module].relative_to(ROOT)): others
        for module, targets in ANYWHERE.items()
        if (others := set(map(top, targets)) - plain - sys.stdlib_module_names)
    }
    assert found == OPTIONAL


def test_experiments_do_not_import_each_other():
    experiments = {path.parent.name for path in (ROOT / "experiment").glob("*/main.py")}
    assert {"cifar", "dvs"} <= experiments

    def is_allowed(module: str, target: str) -> bool:
        if top(module) != "experiment" or top(target) != "experiment":
            return True
        own, other = module.split(".")[1], f"{target}.".split(".")[1]
        # The commands for trained networks build every experiment's.
        return other not in experiments or own in (other, "trained")

    wrong = wrong_imports(is_allowed)
    assert not wrong, wrong


def room(module: str) -> str:
    """The folder of model/ that a module lies in; "" at the top."""
    name = module.partition(".")[2].partition(".")[0]
    return name if (ROOT / "model" / name).is_dir() else ""


def is_seen_by_room(module: str, target: str) -> bool:
    """Within model/: the paper's path sees nothing of what lies beside it."""
    if top(module) != "model" or top(target) != "model":
        return True
    here, there = room(module), room(target)
    if here == "kernel":
        return there == "kernel" or target in SEEN_BY_KERNELS
    if there == "kernel":
        return target == "model.kernel"  # the package, which chooses who runs
    return there == "" or here != "" or module in SEE_EVERY_ROOM


@pytest.mark.parametrize(
    ("module", "allowed", "refused"),
    [
        ("model.layer", "functional kernel", "kernel.record kernel.sparse baseline.online zoo.vgg"),
        ("model.registry", "zoo.vgg baseline.teacher kernel", "kernel.choice"),
        ("model.zoo.vgg", "layer stage kernel", "kernel.choice"),
        ("model.kernel.cpu", "functional convolution kernel.record", "layer zoo.vgg method"),
    ],
)
def test_the_rule_of_the_rooms(module, allowed, refused):
    assert all(is_seen_by_room(module, f"model.{name}") for name in allowed.split())
    assert not any(is_seen_by_room(module, f"model.{name}") for name in refused.split())


def test_files_of_the_model_import_what_their_room_may_see():
    rooms = {room(module) for module in FILES if top(module) == "model"}
    assert rooms == {"", "kernel", "zoo", "baseline", "inference"}
    wrong = wrong_imports(is_seen_by_room)
    assert not wrong, wrong


def test_no_import_goes_in_a_circle():
    try:
        TopologicalSorter(AT_IMPORT).prepare()
    except CycleError as error:
        # graphlib lists each module before the one that imports it
        pytest.fail(" imports ".join(reversed(error.args[1])))


def twice(found: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The places of every name that has several."""
    places: dict[str, list[str]] = {}
    for name, place in found:
        places.setdefault(name, []).append(place)
    return {name: where for name, where in places.items() if len(where) > 1}


def test_a_name_stands_for_one_function_or_class():
    """But for what a command, an experiment or a part of a benchmark has by its kind; in model/
    kernels have the name of what they compute."""
    by_kind = {"main", "get_parser", "data_of", "find"}
    names = [
        (node.name, module)
        for module, path in FILES.items()
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    found = {
        name: where
        for name, where in twice(names).items()
        if name not in by_kind and not all(top(module) == "model" for module in where)
    }
    assert found == {}


def test_a_file_name_stands_for_one_file():
    by_kind = {"__init__.py", "main.py", "config.py"}
    paths = [path for module, path in FILES.items() if top(module) != "model"]
    found = twice((path.name, str(path.relative_to(ROOT))) for path in paths)
    step = {
        "step.py": ["experiment/train/step.py", "benchmark/speed/step.py"]
    }  # takes; measures it
    assert {name: where for name, where in found.items() if name not in by_kind} == step


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
