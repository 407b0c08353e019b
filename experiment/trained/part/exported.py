"""The files of an exported network, written whole and read back.

model.safetensors   the weights of `model.inference.folded.FoldedNetwork`; its metadata entry
                    "description" is JSON that says how to build the network and how to prepare its
                    input
program.pt2         a torch.export program for this T and image size and any batch: images in,
                    logits of every time step out; torch alone runs it
"""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiment.data_description import DataDescription
from experiment.flag.lookup import names_of
from experiment.flag.row import Role
from model import build_model
from model.inference.fold import fold
from model.inference.folded import FoldedNetwork
from util.file.atomic import write_atomically
from util.file.kind import Kind, kind_of_file

READ_OUT = "the mean of the logits over the T time steps"
REQUIRED = ("network", "data", "kind", "class_names", "image_size", "resize")


class Exported(NamedTuple):
    """A network read back from model.safetensors, and what it says about itself."""

    net: FoldedNetwork
    description: dict[str, Any]


def describe_network(arguments: dict[str, Any], data: DataDescription) -> dict[str, Any]:
    """Everything that is needed to use the weights of a training run, as plain types.

    arguments: the run's flags; data: what it was trained on.
    """
    network = {name: arguments[name] for name in names_of(arguments["dataset"], Role.NETWORK)}
    network |= {"num_classes": data.num_classes, "in_channels": data.channels}
    about = data.plain()
    return {"network": network, "read_out": READ_OUT, "data": about.pop("name"), **about}


def write_weights(net: FoldedNetwork, description: dict[str, Any], path: Path) -> None:
    from safetensors.torch import save

    tensors = {name: value.contiguous().cpu() for name, value in net.state_dict().items()}
    metadata = {"format": "pt", "description": json.dumps(description)}
    write_atomically(path, save(tensors, metadata))


def read_weights(path: Path) -> Exported:
    """The network in a model.safetensors of `write_weights`.

    Raises: FileNotFoundError; ValueError for a file that is damaged or of another program.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: name the model.safetensors of an export")
    kind = kind_of_file(path)
    if kind not in (None, Kind.SAFETENSORS):
        raise ValueError(f"{path} is {kind}: expected the model.safetensors of an export")
    try:
        # By its number, since safetensors takes no path that is no UTF-8.
        with open(path, "rb") as file, safe_open(f"/dev/fd/{file.fileno()}", "pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            metadata = content.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged or no safetensors file ({error}): export again"
        ) from error
    if "description" not in metadata:
        raise ValueError(f"{path} has no entry 'description': expected a file of export.py")
    description = json.loads(metadata["description"])
    # The first exports did not say it.
    description.setdefault("kind", "images" if "mean" in description else "events")
    missing = [name for name in REQUIRED if name not in description]
    if missing:
        raise ValueError(f"{path} does not describe its {', '.join(missing)}: export again")
    net = fold(build_model(**description["network"], method="rate"))
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: its weights are not those it describes ({reason})") from error
    return Exported(net, description)


def export_program(net: FoldedNetwork, example: Tensor) -> torch.export.ExportedProgram:
    """A program of torch operations for any number of images like those of `example`.

    Takes (B, C, H, W), or (T, B, C, H, W) if the example has time; returns logits (T, B, K).
    """
    dimension = example.dim() - 4
    two = example.narrow(dimension, 0, 1).repeat_interleave(2, dimension)  # one is taken as fixed
    shapes = {"x": {dimension: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        return torch.export.export(net, (two,), dynamic_shapes=shapes, strict=False)


def write_program(
    program: torch.export.ExportedProgram, description: dict[str, Any], path: Path
) -> None:
    """Write program.pt2, the description inside as extra file "description.json"."""
    content = io.BytesIO()
    extra = {"description.json": json.dumps(description)}
    torch.export.save(program, content, extra_files=extra)
    write_atomically(path, content.getvalue())


def read_program(path: Path) -> torch.export.ExportedProgram:
    """The program in a file of `write_program`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")  # torch's own
        with open(path, "rb") as file:  # it takes no path that is no UTF-8
            return torch.export.load(file)
