"""The page on the method: its examples run, are short, and name files and functions that exist."""

import re
from pathlib import Path

import pytest

import model
from model.kernel import choice

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/method.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^### (.+?)\n.*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
TABLES = (model.METHODS, model.MODELS, model.TEACHERS, choice.BACKENDS)


@pytest.fixture
def tables():
    """The tables to which the examples add rows, which are taken out again."""
    before = [dict(table) for table in TABLES]
    yield
    for table, rows in zip(TABLES, before, strict=True):
        table.clear()
        table.update(rows)


def test_there_is_an_example_of_each_part():
    parts = ["A neuron reset", "A method", "A network", "A teacher", "A kernel"]
    assert [title for title, _ in EXAMPLES] == parts


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_an_example_is_complete_and_short(title, code, tables):
    assert len(code.splitlines()) <= 30
    assert max(map(len, code.splitlines())) <= 100
    exec(compile(code, f"docs/method.md, {title}", "exec"), {})


def test_every_hop_exists():
    hops = re.findall(r"^\| \d \| `(\S+?\.py)`, `([\w.]+)`", PAGE, re.MULTILINE)
    assert len(hops) == 6
    for path, name in hops:
        source = (ROOT / path).read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"^\s*(def|class) {part}\b", source, re.MULTILINE), (path, part)
