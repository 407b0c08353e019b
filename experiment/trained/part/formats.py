"""The files of an export: what each is, what it takes, and how it is written and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from experiment.packages import missing_package, refuse_missing
from experiment.trained.part.agreement import program_agreement
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.exported import (
    export_program,
    read_program,
    read_weights,
    write_program,
    write_weights,
)
from experiment.trained.part.trained_network import Trained
from model.inference.fold import fold
from model.inference.folded import FoldedNetwork

if TYPE_CHECKING:
    import nir

ALIKE = 0.95  # of the answers: rounding changes few of them, another network most


class Material(NamedTuple):
    """What the files are written from.

    net: the folded network on a CPU, since a program runs on the device that it was traced on;
    tests: what they are verified on; graph: if NIR is written; program: if torch.export's is used.
    """

    net: FoldedNetwork
    description: dict[str, Any]
    tests: EvaluationSet
    graph: nir.NIRGraph | None = None
    program: torch.export.ExportedProgram | None = None

    def inputs(self) -> Iterator[Tensor]:
        return (x.cpu() for x in self.tests.inputs())


class Format(NamedTuple):
    """One file of an export.

    text: how it is used; packages: that it takes; spared: whether it is left out by default where
    it cannot be written; write: into a file, returns for export.json what reading it back shows.
    """

    file: str
    text: str
    packages: tuple[str, ...]
    spared: bool
    write: Callable[[Material, Path], dict[str, Any]]


def _weights(material: Material, path: Path) -> dict[str, Any]:
    write_weights(material.net, material.description, path)
    again = read_weights(path).net.state_dict()
    if any(not torch.equal(v, again[k]) for k, v in material.net.state_dict().items()):
        raise ValueError(f"{path} does not hold what was written")
    return {}


def _program(material: Material, path: Path) -> dict[str, Any]:
    write_program(material.program, material.description, path)
    agreement = program_agreement(material.net, read_program(path), material.inputs())
    if agreement.different:
        raise ValueError(f"the program is not the network: {agreement.sentence()}")
    return {"program": agreement.sentence(), "program_counts": agreement._asdict()}


def _onnx(material: Material, path: Path) -> dict[str, Any]:
    from experiment.trained.part.onnx_model import onnx_agreement, read_onnx, write_onnx

    write_onnx(material.program, material.description, path)
    agreement = onnx_agreement(material.net, read_onnx(path), material.inputs())
    if agreement.answers < ALIKE * agreement.images:
        raise ValueError(f"{path} is not the network: {agreement.sentence()}")
    return {"onnx": agreement.sentence(), "onnx_counts": agreement._asdict()}


def _nir(material: Material, path: Path) -> dict[str, Any]:
    from experiment.trained.part.nir_graph import TIME_STEP, write_nir

    write_nir(material.graph, material.description, path)
    return {"nir_dt": TIME_STEP}


FORMATS = {
    "safetensors": Format(
        "model.safetensors",
        "weights of `model.inference.folded.FoldedNetwork`, read with "
        "`experiment.trained.part.exported.read_weights`",
        ("safetensors",),
        False,
        _weights,
    ),
    "program": Format(
        "program.pt2",
        '`torch.export.load("program.pt2").module()(images)` gives the logits of every time step, '
        "(T, B, K), for any number of images",
        (),
        False,
        _program,
    ),
    "onnx": Format(
        "model.onnx",
        "for onnxruntime and others, in float32: takes any number of images, gives the logits of "
        "every time step, (T, B, K)",
        ("onnxscript", "onnxruntime"),
        True,
        _onnx,
    ),
    "nir": Format(
        "graph.nir",
        "one image in, the logits of one time step out, to be called T times with its state; "
        "`nir.read` reads it, and its metadata say dt, T and the read-out",
        ("nir",),
        True,
        _nir,
    ),
}


class Choice(NamedTuple):
    """formats: to write; graph: for NIR, if it is among them; left_out: why, by file."""

    formats: list[str]
    graph: nir.NIRGraph | None
    left_out: dict[str, str]


def choose_formats(trained: Trained, wanted: Sequence[str] | None) -> Choice:
    """The formats wanted, or, with None, all that can be written.

    Raises: ModuleNotFoundError, ValueError for what is wanted, or never spared, and cannot be.
    """
    choice = Choice([], None, {})
    for name in dict.fromkeys(wanted or FORMATS):
        try:
            refuse_missing(*FORMATS[name].packages)
            if name == "nir":
                choice = choice._replace(graph=nir_graph_of(trained))
        except (ModuleNotFoundError, ValueError) as error:
            is_package = isinstance(error, ModuleNotFoundError)
            reason = missing_package(error) if is_package else str(error)
            if wanted or reason is None or not FORMATS[name].spared:
                raise
            choice.left_out[FORMATS[name].file] = reason
        else:
            choice.formats.append(name)
    return choice


def nir_graph_of(trained: Trained) -> nir.NIRGraph:
    """Raises: ValueError if NIR cannot express the network."""
    from experiment.trained.part.nir_graph import to_nir

    side = trained.data.image_size
    return to_nir(fold(trained.net).cpu(), height=side, width=side)


def write_formats(
    choice: Choice,
    net: FoldedNetwork,
    description: dict[str, Any],
    tests: EvaluationSet,
    folder: Path,
) -> dict[str, Any]:
    """Write the files chosen, reading each back; returns what that showed.

    Raises: ValueError if a file does not give the network that was written; it is removed.
    """
    material = Material(net.cpu(), description, tests, choice.graph)
    if not {"program", "onnx"}.isdisjoint(choice.formats):
        example = next(material.inputs())
        material = material._replace(program=export_program(material.net, example))
    shown: dict[str, Any] = {"formats": choice.formats, "description": description}
    for name in choice.formats:
        path = folder / FORMATS[name].file
        try:
            shown |= FORMATS[name].write(material, path)
        except ValueError:
            path.unlink(missing_ok=True)
            raise
    return shown
