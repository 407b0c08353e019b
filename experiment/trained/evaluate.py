"""Evaluate a trained network: every head, every time step, early exit, confusion, calibration.

    python experiment/trained/evaluate.py runs/FOLDER/best.pt
    torchrun --nproc_per_node=2 experiment/trained/evaluate.py runs/FOLDER/best.pt

Prints tables and writes evaluate.json and evaluate.png. Each test sample is counted exactly once,
however many processes there are. Accuracy at step t is that of the mean of the logits of steps
1..t: what the network would answer if it had to stop there; the area is its mean over t.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.flag.kinds import Real
from experiment.flag.parser import FlagParser
from experiment.train.evaluation import autocast
from experiment.trained.part.checkpoint_command import add_sparse, checkpoint_parser, opened
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.scores import THRESHOLDS, add_counts, count_batch, percentages
from experiment.trained.part.scores_picture import draw_scores
from experiment.trained.part.trained_network import Trained
from model.inference.folded import FoldedNetwork
from util.figure import markdown_table
from util.file.record import write_json

PRODUCTS = ("evaluate.json", "evaluate.png")


def get_parser() -> FlagParser:
    description = (
        "Accuracy of every head and time step, early exit, confusion matrix and calibration of a "
        "trained network on its test set."
    )
    parser = checkpoint_parser(description, out="evaluate", images="test images to count")
    add, kind = parser.add_argument, Real(0, 1)
    text = "of early exit: stop at the first step whose confidence is above this"
    add("--thresholds", type=kind, nargs="+", metavar="CONFIDENCE", default=THRESHOLDS, help=text)
    add_sparse(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line; returns what it writes. Raises: SystemExit(2) for wrong input."""
    args = get_parser().parse_args(argv)
    with opened(args, "evaluate", PRODUCTS, shared=True) as (trained, results, tests):
        chosen = tests.first(args.images)
        trained.net.execution = trained.net.execution._replace(sparse=args.sparse)
        result = count_scores(trained, chosen, thresholds=sorted(set(args.thresholds)))
        if chosen.group.is_first:
            folder = results.make_room()
            write_json(folder / "evaluate.json", result)
            print(score_tables(result))
            draw_scores(result, trained.title, folder / "evaluate.png")
            results.print_written()
    return result


@torch.no_grad()
def count_scores(
    trained: Trained,
    chosen: EvaluationSet,
    *,
    folded: FoldedNetwork | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, Any]:
    """`scores.percentages` of the test set, each sample counted once over all processes.

    folded: what an export has, computed in fp32, in place of the trained network with its branches,
    which is computed as in its training (--amp).
    Raises: ValueError for fewer samples than processes.
    """
    group = chosen.group
    if chosen.samples < group.world_size:
        images, processes = chosen.samples, group.world_size
        raise ValueError(
            f"{images} test images cannot be shared by {processes} processes: use fewer"
        )
    sums: dict[str, Tensor] = {}
    for x, labels in chosen.batches():
        if folded is None:
            with autocast(group.device, trained.arguments["amp"]):
                branches, time_logits = trained.net.all_logits(x)
        else:
            branches, time_logits = [], folded(x)
        sums = add_counts(sums, count_batch(branches, time_logits, labels, thresholds))
    sums = {name: group.sum(value) for name, value in sums.items()}
    about = {"checkpoint": str(trained.path), "epochs": trained.epochs, "T": trained.net.T}
    return about | percentages(sums, thresholds, trained.data.class_names)


def score_tables(result: dict[str, Any]) -> str:
    names = [f"branch {i}" for i in range(1, len(result["head_top1"]))] + ["spiking network"]
    accuracies = zip(names, result["head_top1"], result["head_top5"], strict=True)
    heads = [(name, f"{top1:.2f}", f"{top5:.2f}") for name, top1, top5 in accuracies]
    steps = [
        (str(row["t"]), f"{row['top1']:.2f}", f"{row['top5']:.2f}", f"{row['confidence']:.3f}")
        for row in result["steps"]
    ]
    exits = [
        (f"{row['threshold']:g}", f"{row['mean_steps']:.2f}", f"{row['top1']:.2f}")
        for row in result["early_exit"]
    ]
    calibration = result["calibration"]
    parts = [
        f"{result['samples']} test images, loss {result['loss']:.4f}, calibration error (ECE, "
        f"{calibration['number_of_bins']} bins) {calibration['ece']:.2f} %",
        markdown_table(("head", "top-1 (%)", "top-5 (%)"), heads),
        markdown_table(("steps taken", "top-1 (%)", "top-5 (%)", "mean confidence"), steps),
        f"area under top-1 against steps taken, its mean height: {result['steps_area']:.2f} %",
        markdown_table(("exit above confidence", "mean steps", "top-1 (%)"), exits),
        most_confused(result),
    ]
    return "\n\n".join(parts)


def most_confused(result: dict[str, Any]) -> str:
    """The five pairs of classes that are mistaken for each other most often, in a sentence."""
    names = result["classes"]
    pairs = [
        (number_of, names[true], names[predicted])
        for true, row in enumerate(result["confusion"])
        for predicted, number_of in enumerate(row)
        if true != predicted and number_of
    ]
    if not pairs:
        return "no image was taken for another class"
    worst = sorted(pairs, key=lambda pair: -pair[0])[:5]
    listed = ", ".join(f"{true} taken for {predicted} ({n})" for n, true, predicted in worst)
    return f"most frequent mistakes: {listed}"


if __name__ == "__main__":
    main()
