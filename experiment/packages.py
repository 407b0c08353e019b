"""Packages that training on images does without, and the sentence where one is missing.

Each is imported where it is used, so that every command starts without it. (One more is the
progress bar's: without it there is no bar.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple


class Package(NamedTuple):
    """purpose: what takes it; install: what pip is told, with the versions of requirements.txt."""

    purpose: str
    install: str


TORCH = "torch==2.11.0"
OPTIONAL = {  # by the name that is imported
    "nir": Package("graph.nir (export.py --format nir)", "nir==1.0.8"),
    "onnxruntime": Package("model.onnx (export.py --format onnx)", "onnxruntime==1.32.0"),
    "onnxscript": Package("model.onnx (export.py --format onnx)", "onnxscript==0.7.2"),
    "safetensors": Package(
        "model.safetensors (export.py without --format program, predict.py)", "safetensors==0.8.0"
    ),
    "sklearn": Package(
        "--val_fraction, --test_fraction, Digits, DigitsDVS, Recordings and photographs to "
        "measure with",
        "scikit-learn==1.9.1",
    ),
    "spikingjelly": Package(
        "event data, and counting operations (energy.py, export.py)",
        "spikingjelly==2.0.0 torchaudio==2.11.0",
    ),
    "tensorboard": Package("TensorBoard's event files", "tensorboard==2.21.0"),
}


def missing_package(error: ImportError) -> str | None:
    """What is missing, for what, and how to install it; None if it is none of these packages."""
    if not isinstance(error, ModuleNotFoundError) or error.name not in OPTIONAL:
        return None
    purpose, install = OPTIONAL[error.name]
    name = install.partition("==")[0]
    return f"{name} is not installed; it is needed for {purpose}: pip install {install}"


@contextmanager
def left_out_if_missing(report: Callable[[str], None]) -> Iterator[None]:
    """What is done in here is left out where its package is missing; `report` is told why.

    So are TensorBoard's files in a folder whose path is no UTF-8: it can neither write nor read it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        reason = missing_package(error)
        if reason is None:
            raise
        report(reason)
    except UnicodeEncodeError as error:
        report(f"TensorBoard's files cannot lie at {error.object!r}, which is no UTF-8")


def refuse_missing(*modules: str) -> None:
    """ModuleNotFoundError for a module that would be missed only after minutes of work."""
    for module in modules:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


@contextmanager
def loading(package: str) -> Iterator[None]:
    """ValueError if this package is installed and an import in here fails, as beside another torch.

    For what every file will take when it is read: each would seem to be damaged.
    """
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:  # the last: of torchaudio, another CUDA's
        reason, install = " ".join(str(error).split()), OPTIONAL[package].install
        raise ValueError(
            f"{package} is installed and cannot be loaded: {reason}; these versions fit together: "
            f"pip install {TORCH} {install}"
        ) from error
