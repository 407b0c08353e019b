"""Which file of model/ may import which: the paper's path sees nothing of what lies beside it.

The rooms are the folders of model/; the files outside them are the paper, top to bottom.
"""

import ast
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "model").rglob("*.py"))
}
SEEN_BY_KERNELS = {"model.functional", "model.convolution"}
SEE_EVERY_ROOM = {"model.method", "model.registry"}  # tables of all methods, networks, teachers


def room(module: str) -> str:
    """The folder of model/ that a module lies in; "" at the top."""
    name = module.partition(".")[2].partition(".")[0]
    return name if (ROOT / "model" / name).is_dir() else ""


def is_allowed(module: str, target: str) -> bool:
    here, there = room(module), room(target)
    if here == "kernel":
        return there == "kernel" or target in SEEN_BY_KERNELS
    if there == "kernel":
        return target == "model.kernel"  # the package, which chooses who runs
    return there == "" or here != "" or module in SEE_EVERY_ROOM


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Modules of model/ in import statements; `from a import b` is of a.b if that is a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import by a relative name"
            both = [(node.module, f"{node.module}.{alias.name}") for alias in node.names]
            names = [inner if inner in FILES else outer for outer, inner in both]
        else:
            continue
        yield from (name for name in names if name in FILES)


def at_module_level(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: nothing in functions or for a type checker alone."""
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not is_function and not is_for_types:
            yield child
            yield from at_module_level(child)


def test_an_import_is_found_wherever_it_stands():
    source = """
import model.layer as other
from model import kernel, build_model
if TYPE_CHECKING:
    from model.method import METHODS
try:
    from model.kernel import Execution, record
except ImportError:
    from torch import nn
def late():
    from model.zoo.vgg import VGG
"""
    tree = ast.parse(source)
    outside = {"model.layer", "model.kernel", "model", "model.kernel.record"}
    assert set(imported(at_module_level(tree))) == outside
    assert set(imported(ast.walk(tree))) == outside | {"model.method", "model.zoo.vgg"}


@pytest.mark.parametrize(
    ("module", "allowed", "refused"),
    [
        ("model.layer", "functional kernel", "kernel.record kernel.sparse baseline.online zoo.vgg"),
        ("model.registry", "zoo.vgg baseline.teacher kernel", "kernel.choice"),
        ("model.zoo.vgg", "layer stage kernel", "kernel.choice"),
        ("model.inference.fold", "layer zoo.sew_resnet", "kernel.record"),
        ("model.kernel.cpu", "functional convolution kernel.record", "layer zoo.vgg method"),
        ("model.kernel.sparse.spike_convolution", "convolution kernel.sparse", "rate_pair"),
    ],
)
def test_the_rule_of_the_rooms(module, allowed, refused):
    assert all(is_allowed(module, f"model.{name}") for name in allowed.split())
    assert not any(is_allowed(module, f"model.{name}") for name in refused.split())
    assert not is_allowed("model.kernel.cpu", "model")


def test_files_import_what_their_room_may_see():
    assert {room(module) for module in FILES} == {"", "kernel", "zoo", "baseline", "inference"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {target}"
        for module, path in FILES.items()
        for target in sorted(set(imported(ast.walk(ast.parse(path.read_text())))))
        if not is_allowed(module, target)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_goes_in_a_circle():
    graph = {
        module: set(imported(at_module_level(ast.parse(path.read_text()))))
        for module, path in FILES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib lists each module before the one that imports it
        pytest.fail(" imports ".join(reversed(error.args[1])))
