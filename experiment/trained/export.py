"""Export a trained network: no branches, batch norms folded, in formats that others read.

    python experiment/trained/export.py runs/FOLDER/best.pt
    python experiment/trained/export.py runs/FOLDER/best.pt --format nir

safetensors   model.safetensors, weights of the plain PyTorch module
              `model.inference.folded.FoldedNetwork`
program       program.pt2, a torch.export program for the T of the training; torch alone runs it
onnx          model.onnx, the same program for onnxruntime and others
nir           graph.nir, for neuromorphic tools

onnx and nir are left out where their packages are not installed, nir also where it cannot express
the network.

Before anything is written, the folded network has to fire the trained network's spikes, every one,
on the test set in float64; what differs in float32, by rounding, is counted. The program is read
back and compared likewise, and what onnxruntime makes of model.onnx by its logits. card.md says
what the network is and what it can and cannot do, in the float32 of the files whatever the
precision of the training; export.json has the same numbers. Files of an earlier export in the
folder are removed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.flag.parser import FlagParser
from experiment.trained import energy
from experiment.trained.evaluate import count_scores
from experiment.trained.part.agreement import folding_agreement
from experiment.trained.part.card import read_back, write_card
from experiment.trained.part.checkpoint_command import checkpoint_parser, opened
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.exported import describe_network
from experiment.trained.part.formats import FORMATS, choose_formats, write_formats
from experiment.trained.part.trained_network import Trained
from model.inference.fold import fold
from util.file.record import write_json

PRODUCTS = (*(form.file for form in FORMATS.values()), "card.md", "export.json")


def get_parser() -> FlagParser:
    description = (
        "Write a trained network for use elsewhere: without branches, batch norms folded into "
        "convolutions, spikes verified, a model card beside it."
    )
    parser = checkpoint_parser(description, out="export", images="test images to verify on")
    text = (
        "what to write; default: safetensors and program, and onnx and nir where they are "
        "installed and can express the network"
    )
    parser.add_argument("--format", choices=FORMATS, nargs="+", help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line; returns what it writes. Raises: SystemExit(2) for wrong input."""
    args = get_parser().parse_args(argv)
    with opened(args, "export", PRODUCTS, packages=("spikingjelly",)) as (trained, results, tests):
        torch.backends.cudnn.allow_tf32 = False  # what is verified and reported is float32
        choice = choose_formats(trained, args.format)
        chosen = tests.first(args.images)
        result = verify_folding(trained, chosen) | measure_folded(trained, chosen)
        folder = results.make_room(remove=True)
        description = describe_network(trained.arguments, trained.description)
        result |= write_formats(choice, fold(trained.net), description, chosen, folder)
        write_json(folder / "export.json", result)
        write_card(result, trained, folder / "card.md")
        print(f"float64, folded: {result['float64']}\nfloat32, folded: {result['float32']}")
        for file, finding in read_back(result).items():
            print(f"{file}: {finding}")
        for file, reason in choice.left_out.items():
            print(f"{file} not written: {reason}")
        results.print_written()
    return result


def verify_folding(trained: Trained, chosen: EvaluationSet) -> dict[str, Any]:
    """How folding agrees with the trained network in float64, exactly, and in float32.

    Raises: ValueError if a spike differs in float64.
    """
    exact = folding_agreement(trained.net, chosen.inputs(), torch.float64)
    if exact.different:
        raise ValueError(f"folding changed the network: {exact.sentence()}")
    rounded = folding_agreement(trained.net, chosen.inputs(), torch.float32)
    return {
        "float64": exact.sentence(),
        "float32": rounded.sentence(),
        "float64_counts": exact._asdict(),
        "float32_counts": rounded._asdict(),
    }


def measure_folded(trained: Trained, chosen: EvaluationSet) -> dict[str, Any]:
    """Size, accuracy, firing rates and energy of the network that is written, for the card."""
    net = fold(trained.net)
    accuracy = count_scores(trained, chosen, folded=net)
    parameters = sum(weights.numel() for weights in net.parameters())
    size = {"width": net.stem.conv.out_channels, "parameters": parameters}
    few = min(chosen.samples, energy.IMAGES)
    chosen = chosen._replace(count=few, batch_size=min(chosen.batch_size, 32))
    operations = energy.operations_per_image(trained, chosen)
    return size | {"accuracy": accuracy, "energy": energy.energy_report(operations, trained, few)}


if __name__ == "__main__":
    main()
