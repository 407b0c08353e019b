"""Classify image files, folders of them, or recordings of an event camera.

    python experiment/trained/predict.py runs/FOLDER/best.pt photo.png folder/
    python experiment/trained/predict.py runs/FOLDER/export/model.safetensors photo.png
    python experiment/trained/predict.py runs/FOLDER/best.pt --confidence 0.95 photo.png

Prints class, confidence (softmax of the mean of the logits so far) and the time steps that were
computed: the network is stopped as soon as its confidence is above --confidence. Files that cannot
be read are named and skipped, and the exit code is then 1. No data set is needed: classes and
normalisation come with the network. (Checkpoints of earlier versions have none, and need it.)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.flag.kinds import Real, expanded_path, home_path
from experiment.flag.parser import FlagParser, warn_about
from experiment.train.failure import refuse_lost_output
from experiment.trained.part.checkpoint_command import command
from experiment.trained.part.exported import Exported, describe_network, read_weights
from experiment.trained.part.input_events import EVENT_SUFFIXES
from experiment.trained.part.input_file import find_files, read_input, wanted_suffixes
from experiment.trained.part.trained_network import load_trained
from model.inference.fold import fold
from model.inference.stream import Stream
from util.file.kind import Kind, kind_of_file
from util.image.picture import SUFFIXES as IMAGE_SUFFIXES
from util.image.picture import UNREADABLE, reason_of


class Prediction(NamedTuple):
    """The answer for one file; steps: time steps computed, at most T."""

    path: Path
    label: str
    confidence: float
    steps: int


def get_parser() -> FlagParser:
    parser = FlagParser("Classify images or event recordings with a trained network.")
    add = parser.add_argument
    text = "a checkpoint of a run (best.pt), or the model.safetensors of an export"
    add("network", type=expanded_path, metavar="NETWORK", help=text)
    text = (
        f"images ({', '.join(IMAGE_SUFFIXES)}) or, for networks of event data, recordings "
        f"({', '.join(EVENT_SUFFIXES)}); folders are searched with all below them"
    )
    add("inputs", type=home_path, nargs="+", metavar="FILE|FOLDER", help=text)
    text = "stop computing time steps above this confidence; 1: take all T"
    add("--confidence", type=Real(0, 1), default=1.0, metavar="PROBABILITY", help=text)
    text = (
        "where the data set lies of a checkpoint that an earlier version has saved without the "
        "names of the classes; default: where it lay in training"
    )
    add("--data_path", type=expanded_path, metavar="FOLDER", help=text)
    add("--device", help="cpu, cuda or cuda:N; default: cuda if there is one")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Prediction]:
    """Run the command line; returns the answers.

    Raises: SystemExit, code 2 for wrong input, 1 after the last file if any was skipped.
    """
    args = get_parser().parse_args(argv)
    answers, skipped = [], 0
    with command(args.device) as group:
        network = load_network(args.network, group.device, data_path=args.data_path)
        for path in find_files(args.inputs, wanted_suffixes(network)):
            try:
                answer = predict(network, path, confidence=args.confidence, device=group.device)
            except UNREADABLE as error:
                skipped += 1
                print(f"skipped {path}: {reason_of(error)}", file=sys.stderr)
                continue
            answers.append(answer)
            steps = f"{answer.steps} of {network.net.T} steps"
            print(f"{path}: {answer.label}, confidence {answer.confidence:.3f}, {steps}")
        refuse_lost_output()
    if skipped:
        print(f"{skipped} of {skipped + len(answers)} files skipped", file=sys.stderr)
        raise SystemExit(1)
    return answers


def load_network(path: Path, device: torch.device, *, data_path: Path | None = None) -> Exported:
    """The folded network of a checkpoint or of an export, on the device.

    Only a checkpoint that an earlier version has saved needs its data set, for the names of the
    classes; a `data_path` for another is warned about.
    Raises: ValueError, OSError for a file that is neither.
    """
    kind = kind_of_file(path)
    if kind not in (None, Kind.SAFETENSORS, Kind.TORCH):
        raise ValueError(
            f"{path} is {kind}: expected a checkpoint of a run, such as best.pt, or "
            "the model.safetensors of an export"
        )
    if kind is not Kind.SAFETENSORS:
        trained = load_trained(path, device, data_path=data_path, with_data=False)
        description = describe_network(trained.arguments, trained.description)
        return Exported(fold(trained.net), description)
    if data_path is not None:
        warn_about(["data_path"], "the network knows its classes, and needs no data set")
    torch.backends.cudnn.allow_tf32 = False  # exports are verified in float32
    network = read_weights(path)
    network.net.to(device)
    return network


@torch.no_grad()
def predict(
    network: Exported, path: Path, *, confidence: float, device: torch.device
) -> Prediction:
    """Classify one file, step by step until the confidence is above the one given.

    Raises: one of UNREADABLE if the file cannot be read.
    """
    net, description = network
    frames = read_input(path, network)
    stream = Stream(net)
    for frame in frames.to(device):
        probabilities = stream.step(frame[None]).double().softmax(-1)[0]
        if probabilities.max() > confidence:
            break
    best = int(probabilities.argmax())
    return Prediction(
        path, description["class_names"][best], probabilities[best].item(), stream.steps
    )


if __name__ == "__main__":
    main()
