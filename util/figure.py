"""Pictures as PNG files, the same under everyone's settings of matplotlib, and tables.

matplotlib is imported where something is drawn, through `import_matplotlib`. Text is shown as it
is: a `$` in the name of a class is no mathematics.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from util.file.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LONGEST = 40
GREEN, RED, BLUE, GRAY = "#2a7f4f", "#c0392b", "#2c6fbb", "#888888"

_ONE_AT_A_TIME = threading.RLock()  # settings and warnings are those of the whole process


def import_matplotlib() -> None:
    """Import matplotlib, even where MPLBACKEND names what is not installed here.

    A notebook's cell sets it for all programs that it starts, and matplotlib refuses to be imported
    then; we need no backend. Otherwise the variable has its usual effect, for others. To be called
    before packages that import matplotlib themselves.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


@contextmanager
def drawing(
    target: Path | io.BytesIO,
    width: float,
    height: float,
    title: str | None = None,
    *,
    dpi: int = 110,
    layout: str | None = "constrained",
    mathematics: bool = False,
) -> Iterator[Figure]:
    """An empty figure of so many inches, written as PNG at the end of the block, whole or not.

    Args:
        target: a file to create or replace, or where the bytes go.
        layout: "constrained" for a figure that lays itself out.
        mathematics: whether text between two `$` is a formula.
    Raises: OSError if it cannot be written.
    """
    import_matplotlib()
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings = style.context(["default", {"text.parse_math": mathematics}])
    with _ONE_AT_A_TIME, settings, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")
        figure = Figure(figsize=(width, height), layout=layout)
        FigureCanvasAgg(figure)
        if title is not None:
            figure.suptitle(printable(title))
        yield figure
        content = io.BytesIO()
        figure.savefig(content, dpi=dpi, format="png")
    if isinstance(target, Path):
        write_atomically(target, content.getvalue())
    else:
        target.write(content.getvalue())


def label_of(name: str) -> str:
    """A name as a picture has room for it: one line of at most LONGEST letters."""
    text = " ".join(printable(name).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def count_along(axis: Axis) -> None:
    """Label whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A Markdown table with aligned columns: the first `left` to the left, the others to the right.

    Cells may hold any text; a `|` in one ends no cell, and a line break is a space.
    """
    lines = [[_cell(text) for text in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lefts, rights = widths[:left], widths[left:]
    formats = [*(f"{{:<{width}}}" for width in lefts), *(f"{{:>{width}}}" for width in rights)]
    rule = ["-" * (width + 2) for width in lefts] + ["-" * (width + 1) + ":" for width in rights]
    line = f"| {' | '.join(formats)} |"
    first, *others = (line.format(*cells) for cells in lines)
    return "\n".join([first, f"|{'|'.join(rule)}|", *others])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").splitlines())


def csv_lines(rows: Iterable[Iterable[Any]]) -> str:
    """The rows as lines of CSV; None is empty."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_utf8(text: str) -> bytes:
    """UTF-8, with a backslash and a number for what it cannot write."""
    return text.encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The text with a backslash and a number for what is no letter."""
    return as_utf8(text).decode("utf-8")
