"""Evaluate a trained network: every head, every time step, early exit, confusion, calibration.

    python experiment/trained/evaluate.py runs/FOLDER/best.pt
    torchrun --nproc_per_node=2 experiment/trained/evaluate.py runs/FOLDER/best.pt

Prints tables and writes evaluate.json and evaluate.png. Each test sample is counted exactly once,
however many processes there are. Accuracy at step t is that of the mean of the logits of steps
1..t: what the network would answer if it had to stop there.
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

from experiment.evaluation import autocast
from experiment.flag_parser import FlagParser, number
from experiment.trained.checkpoint import Trained, load_trained
from experiment.trained.command import (
    add_images_flag,
    batches_of,
    command,
    first_samples,
    make_parser,
    make_room,
    results_folder,
)
from experiment.trained.scores import THRESHOLDS, add_counts, count_batch, summarise
from experiment.trained.scores_picture import draw_scores
from experiment.trained.table import format_table
from model.inference.folded import FoldedNetwork
from util.distributed import Group
from util.record import write_json


def get_parser() -> FlagParser:
    """Every flag with its default."""
    parser = make_parser(
        "Accuracy of every head and time step, early exit, confusion matrix and calibration of a "
        "trained network on its test set.", out="evaluate"
    )  # fmt: skip
    add_images_flag(parser, None, "test images to count")
    parser.add_argument("--thresholds", type=number(float, 0, 1), nargs="+", metavar="CONFIDENCE",
        default=THRESHOLDS,
        help="of early exit: stop at the first step whose confidence is above this")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line `argv` (default: the process's own); returns what it writes.

    Raises: SystemExit with code 2 for wrong arguments or input.
    """
    args = get_parser().parse_args(argv)
    with command(args.device, batch_size=args.batch_size) as group:
        folder = group.from_first(lambda: results_folder(args.out, args.checkpoint, "evaluate"))
        trained = load_trained(args.checkpoint, group.device, data_path=args.data_path)
        result = evaluate(
            trained, thresholds=sorted(set(args.thresholds)), images=args.images,
            batch_size=args.batch_size, num_workers=args.num_workers, group=group,
        )  # fmt: skip
        if group.is_first:
            make_room(folder)
            write_json(folder / "evaluate.json", result)
            print(describe(result))
            draw_scores(result, trained.title, folder / "evaluate.png")
            print(f"written: {folder / 'evaluate.json'}, {folder / 'evaluate.png'}")
    return result


@torch.no_grad()
def evaluate(
    trained: Trained,
    *,
    folded: FoldedNetwork | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    images: int | None = None,
    batch_size: int = 128,
    num_workers: int = 0,
    group: Group,
) -> dict[str, Any]:
    """`scores.summarise` of the test set, each sample counted once over all processes.

    folded: what an export has, computed in fp32, in place of the trained network with its branches,
    which is computed as in its training (--amp).
    """
    data = trained.data
    dataset = first_samples(data.test, images)
    if len(dataset) < group.world_size:
        raise ValueError(f"{len(dataset)} test images cannot be shared by {group.world_size} "
                         "processes: use fewer")  # fmt: skip
    sums: dict[str, Tensor] = {}
    for x, labels in batches_of(
        dataset, data, batch_size=batch_size, num_workers=num_workers, group=group
    ):
        if folded is None:
            with autocast(group.device, trained.arguments["amp"]):
                branches, time_logits = trained.net.all_logits(x)
        else:
            branches, time_logits = [], folded(x)
        sums = add_counts(sums, count_batch(branches, time_logits, labels, thresholds))
    sums = {name: group.sum(value) for name, value in sums.items()}
    about = {"checkpoint": str(trained.path), "epochs": trained.epochs, "T": trained.net.T}
    return about | summarise(sums, thresholds, data.class_names)


def describe(result: dict[str, Any]) -> str:
    """The tables for a terminal."""
    *branches, own = zip(result["head_top1"], result["head_top5"], strict=True)
    named = [(f"branch {i}", *pair) for i, pair in enumerate(branches, 1)]
    heads = [(name, f"{a:.2f}", f"{b:.2f}") for name, a, b in [*named, ("spiking network", *own)]]
    steps = [
        (str(row["t"]), f"{row['top1']:.2f}", f"{row['top5']:.2f}", f"{row['confidence']:.3f}")
        for row in result["steps"]
    ]
    exits = [
        (f"{row['threshold']:g}", f"{row['mean_steps']:.2f}", f"{row['top1']:.2f}")
        for row in result["early_exit"]
    ]
    ece = result["calibration"]["ece"]
    return "\n\n".join([
        f"{result['samples']} test images, loss {result['loss']:.4f}, calibration error (ECE, "
        f"{result['calibration']['number_of_bins']} bins) {ece:.2f} %",
        format_table(("head", "top-1 (%)", "top-5 (%)"), heads),
        format_table(("steps taken", "top-1 (%)", "top-5 (%)", "mean confidence"), steps),
        format_table(("exit above confidence", "mean steps", "top-1 (%)"), exits),
        most_confused(result),
    ])  # fmt: skip


def most_confused(result: dict[str, Any], count: int = 5) -> str:
    """The pairs of classes that are mistaken for each other most often, in a sentence."""
    names = result["classes"]
    pairs = [
        (number_of, names[true], names[predicted])
        for true, row in enumerate(result["confusion"])
        for predicted, number_of in enumerate(row)
        if true != predicted and number_of
    ]
    if not pairs:
        return "no image was taken for another class"
    worst = sorted(pairs, key=lambda pair: -pair[0])[:count]
    listed = ", ".join(f"{true} taken for {predicted} ({n})" for n, true, predicted in worst)
    return f"most frequent mistakes: {listed}"


if __name__ == "__main__":
    main()
