"""Export a trained network: no branches, batch norms folded, in formats that others read.

    python experiment/trained/export.py runs/FOLDER/best.pt
    python experiment/trained/export.py runs/FOLDER/best.pt --format nir

safetensors   model.safetensors, weights of the plain PyTorch module
              `model.inference.folded.FoldedNetwork`
program       program.pt2, a torch.export program for the T of the training; torch alone runs it
nir           graph.nir, for neuromorphic tools; left out where NIR cannot express the network or
              is not installed

Before anything is written, the folded network has to fire the trained network's spikes, every one,
on the test set in float64; what differs in float32, by rounding, is counted. The program is read
back and compared likewise. card.md says what the network is and what it can and cannot do, in the
float32 of the files whatever the precision of the training; export.json has the same numbers.
Files of an earlier export in the folder are removed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.flag.parser import FlagParser
from experiment.packages import missing_package
from experiment.trained import energy
from experiment.trained.evaluate import count_scores
from experiment.trained.part.agreement import folding_agreement, program_agreement
from experiment.trained.part.card import write_card
from experiment.trained.part.checkpoint_command import checkpoint_parser, opened
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.exported import (
    describe_network,
    export_program,
    read_program,
    read_weights,
    write_program,
    write_weights,
)
from experiment.trained.part.trained_network import Trained
from model.inference.fold import fold
from util.file.record import write_json

if TYPE_CHECKING:
    import nir

FORMATS = ("safetensors", "program", "nir")
PRODUCTS = ("model.safetensors", "program.pt2", "graph.nir", "card.md", "export.json")


def get_parser() -> FlagParser:
    description = (
        "Write a trained network for use elsewhere: without branches, batch norms folded into "
        "convolutions, spikes verified, a model card beside it."
    )
    parser = checkpoint_parser(description, out="export", images="test images to verify on")
    text = (
        "what to write; default: safetensors and program, and nir where the network can be "
        "expressed in it"
    )
    parser.add_argument("--format", choices=FORMATS, nargs="+", help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line; returns what it writes. Raises: SystemExit(2) for wrong input."""
    args = get_parser().parse_args(argv)
    packages = ("spikingjelly", *{"safetensors"}.intersection(args.format or FORMATS))
    with opened(args, "export", PRODUCTS, packages=packages) as (trained, results, tests):
        torch.backends.cudnn.allow_tf32 = False  # what is verified and reported is float32
        graph, left_out = make_graph(trained, args.format)
        formats = [name for name in args.format or FORMATS if name != "nir" or graph is not None]
        chosen = tests.first(args.images)
        result = verify_folding(trained, chosen) | measure_folded(trained, chosen)
        folder = results.make_room(remove=True)
        result |= write_formats(formats, graph, trained, chosen, folder)
        write_json(folder / "export.json", result)
        write_card(result, trained, folder / "card.md")
        print(f"float64, folded: {result['float64']}\nfloat32, folded: {result['float32']}")
        if "program" in result:
            print(f"program.pt2, read back: {result['program']}")
        if left_out:
            print(f"graph.nir not written: {left_out}")
        results.print_written()
    return result


def make_graph(
    trained: Trained, wanted: Sequence[str] | None
) -> tuple[nir.NIRGraph | None, str | None]:
    """The NIR graph to write, if any, and why there is none if it was not asked for by name.

    Raises: if NIR is asked for, ValueError if it cannot express the network, ModuleNotFoundError
    if it is not installed.
    """
    if wanted is not None and "nir" not in wanted:
        return None, None
    side = trained.data.image_size
    try:
        from experiment.trained.part.nir_graph import to_nir

        return to_nir(fold(trained.net).cpu(), height=side, width=side), None
    except ValueError as error:
        if wanted is not None:
            raise
        return None, str(error)
    except ModuleNotFoundError as error:
        reason = missing_package(error)
        if wanted is not None or reason is None:
            raise
        return None, reason


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
    """Accuracy, firing rates and energy of the network that is written, for the card."""
    accuracy = count_scores(trained, chosen, folded=fold(trained.net))
    few = min(chosen.samples, energy.IMAGES)
    chosen = chosen._replace(count=few, batch_size=min(chosen.batch_size, 32))
    operations = energy.operations_per_image(trained, chosen)
    return {"accuracy": accuracy, "energy": energy.energy_report(operations, trained, few)}


def write_formats(
    formats: Sequence[str],
    graph: nir.NIRGraph | None,
    trained: Trained,
    chosen: EvaluationSet,
    folder: Path,
) -> dict[str, Any]:
    """Write the files of these formats, reading each back; returns what that showed.

    Everything is written for a CPU: a program runs on the device that it was traced on.
    Raises: ValueError if a file does not give the network that was written.
    """
    net = fold(trained.net).cpu()
    description = describe_network(trained.arguments, trained.description)
    result: dict[str, Any] = {"formats": list(formats), "description": description}
    if "safetensors" in formats:
        write_weights(net, description, folder / "model.safetensors")
        again = read_weights(folder / "model.safetensors").net.state_dict()
        if any(not torch.equal(value, again[k]) for k, value in net.state_dict().items()):
            raise ValueError(f"{folder / 'model.safetensors'} does not hold what was written")
    if "program" in formats:
        program = export_program(net, next(chosen.inputs()).cpu())
        write_program(program, description, folder / "program.pt2")
        again = read_program(folder / "program.pt2")
        agreement = program_agreement(net, again, (x.cpu() for x in chosen.inputs()))
        if agreement.different:
            raise ValueError(f"the program is not the network: {agreement.sentence()}")
        result |= {"program": agreement.sentence(), "program_counts": agreement._asdict()}
    if graph is not None:
        from experiment.trained.part.nir_graph import write_nir

        write_nir(graph, folder / "graph.nir")
    return result


if __name__ == "__main__":
    main()
