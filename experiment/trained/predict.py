"""Classify image files, folders of them, or recordings of an event camera.

    python experiment/trained/predict.py runs/FOLDER/best.pt photo.png folder/
    python experiment/trained/predict.py runs/FOLDER/export-best/model.safetensors photo.png
    python experiment/trained/predict.py runs/FOLDER/best.pt --confidence 0.95 photo.png
    python experiment/trained/predict.py runs/FOLDER/best.pt --top 3 --format csv folder/

Prints class, confidence (softmax of the mean of the logits so far) and the time steps that were
computed: the network is stopped as soon as its confidence is above --confidence. With --format json
(an object in each line) or csv, stdout holds the answers alone. Files that cannot be read are named
on stderr and skipped, and the exit code is then 1. No data set is needed: classes and
normalisation come with the network. (Checkpoints of earlier versions have none, and need it.)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.dvs.recording.recordings import READABLE
from experiment.flag.kinds import Real, Whole, expanded_path, home_path
from experiment.flag.parser import FlagParser, warn_about
from experiment.train.failure import refuse_lost_output
from experiment.trained.part.checkpoint_command import add_sparse, command
from experiment.trained.part.exported import Exported, describe_network, read_weights
from experiment.trained.part.input_file import find_files, read_input, wanted_suffixes
from experiment.trained.part.prediction import FORMS, Guess, Prediction
from experiment.trained.part.trained_network import load_trained
from model.inference.early_exit import answer
from model.inference.fold import fold
from model.inference.skipping import skip_silence
from util.file.kind import Kind, kind_of_file
from util.image.picture import SUFFIXES as IMAGE_SUFFIXES
from util.image.picture import UNREADABLE, reason_of


def get_parser() -> FlagParser:
    parser = FlagParser("Classify images or event recordings with a trained network.")
    add = parser.add_argument
    text = "a checkpoint of a run (best.pt), or the model.safetensors of an export"
    add("network", type=expanded_path, metavar="NETWORK", help=text)
    text = (
        f"images ({', '.join(IMAGE_SUFFIXES)}) or, for networks of event data, recordings "
        f"({', '.join(READABLE)}); folders are searched with all below them"
    )
    add("inputs", type=home_path, nargs="+", metavar="FILE|FOLDER", help=text)
    text = "stop computing time steps above this confidence; 1: take all T"
    add("--confidence", type=Real(0, 1), default=1.0, metavar="PROBABILITY", help=text)
    text = "classes to print of each file, the most probable first"
    add("--top", type=Whole(1), default=1, metavar="CLASSES", help=text)
    text = "how answers are printed: for people, as JSON (an object in each line) or as CSV"
    add("--format", choices=FORMS, default="text", help=text)
    text = (
        "where the data set lies of a checkpoint that an earlier version has saved without the "
        "names of the classes; default: where it lay in training"
    )
    add("--data_path", type=expanded_path, metavar="FOLDER", help=text)
    add("--device", help="cpu, cuda or cuda:N; default: cuda if there is one")
    add_sparse(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> list[Prediction]:
    """Run the command line; returns the answers.

    Raises: SystemExit, code 2 for wrong input, 1 after the last file if any was skipped.
    """
    args = get_parser().parse_args(argv)
    answers, skipped = [], 0
    with command(args.device) as group:
        network = load_network(args.network, group.device, data_path=args.data_path)
        if args.sparse:
            skip_silence(network.net)
        form = FORMS[args.format]
        refuse_more_classes(args.top, network)
        print(form.head, end="")
        for path in find_files(args.inputs, wanted_suffixes(network)):
            try:
                found = predict(
                    network, path, confidence=args.confidence, device=group.device, top=args.top
                )
            except UNREADABLE as error:
                skipped += 1
                print(f"skipped {path}: {reason_of(error)}", file=sys.stderr)
                continue
            answers.append(found)
            print(form.text_of(found), end="")
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


def refuse_more_classes(top: int, network: Exported) -> None:
    """Raises: ValueError for more than there are."""
    there = len(network.description["class_names"])
    if top > there:
        raise ValueError(f"--top {top}: the network knows only {there} classes")


def predict(
    network: Exported, path: Path, *, confidence: float, device: torch.device, top: int = 1
) -> Prediction:
    """Classify one file, step by step until the confidence is above the one given.

    top: classes in the answer. Raises: one of UNREADABLE if the file cannot be read.
    """
    net, description = network
    logits, steps = answer(net, read_input(path, network).to(device), confidence=confidence)
    probabilities = logits[0].double().softmax(-1)
    names = description["class_names"]
    best = probabilities.argsort(descending=True, stable=True)[:top].tolist()
    guesses = tuple(Guess(names[k], probabilities[k].item()) for k in best)
    return Prediction(path, guesses, steps.item(), net.T)


if __name__ == "__main__":
    main()
