"""What the program imports, what the two files of requirements install, what is packed."""

import ast
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from experiment.packages import OPTIONAL, TORCH
from tests.support.commands import ROOT

SHIPPED = ("experiment", "model", "util")
WITH_TORCH = ("triton",)  # where its GPUs are, and only imported there
MODULES = [path for room in SHIPPED for path in sorted((ROOT / room).rglob("*.py"))]


def required(name):
    """What a file names itself, without the one that it begins with."""
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def imported(path):
    """The packages that a module names, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def test_training_takes_the_first_file_and_what_is_optional_the_second():
    names = {name for path in MODULES for name in imported(path)}
    foreign = names - sys.stdlib_module_names - {*SHIPPED, *WITH_TORCH}
    distributions = metadata.packages_distributions()
    first, second = (
        {requirement.name for requirement in required(name)}
        for name in ("requirements.txt", "requirements-extra.txt")
    )
    assert first.isdisjoint(second)
    for name in foreign:
        origins = {origin.lower().replace("_", "-") for origin in distributions[name]}
        assert origins & first or (name in OPTIONAL and origins & second), name


def test_the_versions_that_sentences_name_are_those_required():
    files = [(ROOT / name).read_text() for name in ("requirements.txt", "requirements-extra.txt")]
    named = " ".join([TORCH, *(package.install for package in OPTIONAL.values())]).split()
    assert set(named) <= set("".join(files).splitlines())


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-extra.txt"])
def test_every_version_is_pinned(name):
    assert all([s.operator for s in r.specifier] == ["=="] for r in required(name))


def test_every_folder_of_modules_is_a_package():  # setuptools packs no other
    folders = {path.parent for path in MODULES}
    assert [folder for folder in sorted(folders) if not Path(folder, "__init__.py").exists()] == []
