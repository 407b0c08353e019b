"""Tables as text, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right.

    Cells may hold any text; a `|` in one ends no cell, and a line break is a space.
    """
    header, *rows = ([_cell(text) for text in row] for row in (header, *rows))
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(aligned)} |"

    rule = [f"{'-' * (width + 1)}:" if i else "-" * (width + 2) for i, width in enumerate(widths)]
    return "\n".join([line(header), f"|{'|'.join(rule)}|", *map(line, rows)])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").splitlines())
