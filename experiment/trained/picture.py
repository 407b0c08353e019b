"""Pictures as PNG files, without a display and without pyplot's global state."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from util.atomic_file import write_atomically

GREEN, RED, BLUE, GRAY = "#2a7f4f", "#c0392b", "#2c6fbb", "#888888"


def make_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of so many inches that lays itself out."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, dpi=110, format="png")
    write_atomically(path, content.getbuffer())
