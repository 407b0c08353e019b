"""Pictures show text as it is, look alike everywhere and leave others who use matplotlib alone.

What depends on how matplotlib is first imported runs in a process of its own.
"""

import io
import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import pytest

from util.figure import as_utf8, count_along, drawing, label_of, markdown_table, printable

ROOT = Path(__file__).parents[2]
ODD = ["a$^$b", "US$_bill", "$", "x_1^2", "\\frac{1}", "\\$", "日本", "caf\udce9"]
DRAW = """
import io, json, os, sys
BEFORE
from util.figure import drawing
content = io.BytesIO()
with drawing(content, 2, 2, "a$^$b") as figure:
    figure.subplots().plot([1, 2])
import matplotlib
assert "matplotlib.pyplot" not in sys.modules
backend = dict.__getitem__(matplotlib.rcParams, "backend")
backend = backend if isinstance(backend, str) else None
size = matplotlib.rcParams["font.size"]
print(json.dumps([content.getvalue().hex(), backend, size, os.environ.get("MPLBACKEND")]))
"""


def picture(title, names=("a", "b")):
    content = io.BytesIO()
    with drawing(content, 3, 3, title) as figure:
        panel = figure.subplots()
        panel.set_yticks(range(len(names)), names)
        panel.plot([1, 2], label=names[0])
        panel.legend()
    return content.getvalue()


@pytest.mark.parametrize("text", ODD[:-1])
def test_text_is_no_formula_and_missing_letters_are_no_news(text):
    with warnings.catch_warnings(action="error"):
        assert picture(text, [text, "b"]).startswith(b"\x89PNG")


def test_a_name_of_any_length_and_letters_is_one_line_that_leaves_room_for_the_picture():
    assert label_of("x" * 250) == "x" * 39 + "…" and label_of(ODD[-1]) == "caf\\udce9"
    assert label_of("a\n b\tc\r") == "a b c"
    with warnings.catch_warnings(action="error"):
        picture("title", [label_of("x" * 250), "b"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\\b µ 日本", "a\\b µ 日本"), (ODD[-1], "caf\\udce9"), ("\ud800", "\\ud800")],
)
def test_what_is_no_letter_becomes_a_number(text, shown):
    assert printable(text) == shown
    assert as_utf8(text) == shown.encode()


def test_a_title_may_hold_what_is_no_letter():
    assert picture(ODD[-1]) == picture("caf\\udce9")


def test_a_formula_is_one_where_it_is_asked_for():
    def formula(mathematics):
        content = io.BytesIO()
        with drawing(content, 2, 2, mathematics=mathematics) as figure:
            figure.text(0.5, 0.5, "$z_1$")
        return content.getvalue()

    assert formula(True) != formula(False)


def in_a_process(before="", **environment):
    """(PNG, backend, font size, MPLBACKEND) after a picture was drawn; pyplot never is imported."""
    kept = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    command = [sys.executable, "-W", "error", "-c", DRAW.replace("BEFORE", before)]
    shown = subprocess.check_output(command, cwd=ROOT, env=kept | environment, timeout=120)
    return json.loads(shown)


def test_who_else_uses_matplotlib_is_left_alone():
    """Nor does it matter for our picture what they have set."""
    inline = "module://matplotlib_inline.backend_inline"  # of a notebook, not installed here
    changed = "import matplotlib; matplotlib.rcParams.update({'font.size': 33, 'text.usetex': 1})"
    png, *others = in_a_process()
    assert others == [None, 10, None]
    assert in_a_process(MPLBACKEND=inline) == [png, None, 10, inline]
    assert in_a_process(changed, MPLBACKEND="svg") == [png, "svg", 33, "svg"]


def test_threads_draw_one_at_a_time():
    before = dict(matplotlib.rcParams)
    expected = [picture(f"title {number}") for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(picture, [f"title {number}" for number in range(6)])) == expected
    assert dict(matplotlib.rcParams) == before


def test_an_error_of_whoever_draws_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), drawing(tmp_path / "a.png", 2, 2):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_whole_numbers_alone_are_labelled():
    with drawing(io.BytesIO(), 4, 4) as figure:
        panel = figure.subplots()
        panel.plot([1, 2], [0, 1])
        count_along(panel.xaxis)
        assert all(place == int(place) for place in panel.get_xticks())


def test_a_table_is_aligned_and_a_cell_may_hold_any_text():
    assert markdown_table(["name", "ms", "MiB"], [["a|b\nc", "1.5", ""], ["d", "10.5", "2"]]) == (
        "| name   |   ms | MiB |\n"
        "|--------|-----:|----:|\n"
        "| a\\|b c |  1.5 |     |\n"
        "| d      | 10.5 |   2 |"
    )
    assert markdown_table(["a", "b"], [["1", ""]], left=2) == "| a | b |\n|---|---|\n| 1 |   |"


def test_a_row_has_as_many_cells_as_the_header():
    with pytest.raises(ValueError):
        markdown_table(["a", "b"], [["1"]])
