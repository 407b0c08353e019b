"""Look inside a trained network: firing rates, potentials, branch maps, gradients.

    python experiment/trained/look_inside.py runs/FOLDER/best.pt
    python experiment/trained/look_inside.py runs/FOLDER/best.pt --neuron stem:0,5,7

Writes
    firing_rates.png         a histogram over the neurons of each layer; silent and saturated ones
    potentials.png           membrane potentials of chosen neurons on one test image
    branch_maps.png          what each branch reads and makes of it, on the same image
    gradient_agreement.png   cosine per layer between rate-based and BPTT gradients on one batch
    training.png             reliable fraction, accuracies and losses by epoch, if the run's
                             metrics.jsonl is beside the checkpoint
    look_inside.json         the numbers behind them
and, where TensorBoard is installed, all of it as its events (tensorboard --logdir FOLDER).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.curves import draw_curves
from experiment.flag.kinds import Whole
from experiment.flag.parser import FlagParser
from experiment.packages import left_out_if_missing
from experiment.trained.part.activity import measure_activity, trace_potentials
from experiment.trained.part.checkpoint_command import checkpoint_parser, opened
from experiment.trained.part.findings import EVENT_FILES, Findings, write_events
from experiment.trained.part.gradient_agreement import gradient_agreement
from experiment.trained.part.inside_picture import (
    draw_branch_maps,
    draw_firing_rates,
    draw_gradient_agreement,
    draw_potentials,
)
from experiment.trained.part.trained_network import Trained
from model.inference.fold import fold
from util.file.record import write_json
from util.process.distributed import Group

IMAGES, GRADIENT_IMAGES = 128, 32  # if there are so many
PRODUCTS = (
    "firing_rates.png",
    "potentials.png",
    "branch_maps.png",
    "gradient_agreement.png",
    "training.png",
    "look_inside.json",
    EVENT_FILES,
)


def get_parser() -> FlagParser:
    description = (
        "Firing rates, membrane potentials, branch maps and gradient agreement of a trained "
        "network."
    )
    text, name = "test images for firing rates", "look_inside"
    parser = checkpoint_parser(description, out=name, images=text, usual=IMAGES, batch_size=64)
    add = parser.add_argument
    text = "test image for potentials and branch maps, counted from 0"
    add("--image", type=Whole(0), default=0, metavar="NUMBER", help=text)
    text = (
        "neurons whose potentials are drawn, such as stages.1.0.unit1:3,4,4 (channel, row, "
        "column); default: six of the first, the middle and the last layer"
    )
    add("--neuron", type=neuron_place, nargs="+", metavar="LAYER:PLACE", help=text)
    text = (
        "test images in the batch whose gradients are compared; default: "
        f"{GRADIENT_IMAGES}, or all if there are fewer"
    )
    add("--gradient_images", type=Whole(2), metavar="IMAGES", help=text)
    return parser


def neuron_place(text: str) -> tuple[str, tuple[int, ...]]:
    """An argparse type: "LAYER:C,H,W" or "LAYER:C"."""
    layer, _, place = text.rpartition(":")
    try:
        numbers = tuple(int(part) for part in place.split(","))
    except ValueError:
        numbers = ()
    if not layer or not numbers:
        raise argparse.ArgumentTypeError(f"expected LAYER:CHANNEL,ROW,COLUMN, got {text!r}")
    return layer, numbers


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line; returns what it writes. Raises: SystemExit(2) for wrong input."""
    args = get_parser().parse_args(argv)
    sizes = {"gradient_images": args.gradient_images or GRADIENT_IMAGES}
    with opened(args, "look_inside", PRODUCTS, sizes=sizes) as (trained, results, tests):
        net = fold(trained.net)
        chosen = tests.first(args.images, IMAGES)
        batch = tests.first(args.gradient_images, GRADIENT_IMAGES, flag="gradient_images")
        image, label = test_image(trained, args.image, tests.group)
        traces = trace_potentials(net, image, args.neuron)
        layers = measure_activity(net, chosen.inputs())
        first = next(batch._replace(batch_size=batch.samples).batches())
        cosines = gradient_agreement(trained, *first)
        found = Findings(layers, traces, cosines, chosen.samples, batch.samples)

        folder = results.make_room(remove=True)
        result = {"checkpoint": str(trained.path), **found.plain()}
        write_json(folder / "look_inside.json", result)
        print(found.table())
        caption = f"test image {args.image} ({trained.data.class_names[label]})"
        draw_findings(found, trained, image, caption, folder)
        with left_out_if_missing(lambda why: print(f"no TensorBoard events: {why}")):
            pictures = [path for path in results.written() if path.suffix == ".png"]
            write_events(folder, pictures, found, trained)
        results.print_written()
    return result


def test_image(trained: Trained, index: int, group: Group) -> tuple[Tensor, int]:
    """One test image as the network takes it, a batch of one, and its label.

    Raises: ValueError if there are not so many.
    """
    data = trained.data
    if index >= len(data.test):
        raise ValueError(f"--image {index}: expected 0 to {len(data.test) - 1}")
    image, label = data.test[index]
    return data.to_input(image[None].to(group.device)), int(label)


def draw_findings(
    found: Findings, trained: Trained, image: Tensor, caption: str, folder: Path
) -> None:
    """Every picture that can be drawn; image, caption: the one of the potentials and the maps."""
    title = f"{trained.title}, {caption}"
    draw_potentials(found.traces, trained.net.neuron.threshold, title, folder / "potentials.png")
    if trained.net.branches:
        draw_branch_maps(trained.net, image, title, folder / "branch_maps.png")
    title = f"{trained.title}, {found.images} test images"
    draw_firing_rates(found.layers, title, folder / "firing_rates.png")
    title = f"{trained.title}, {found.batch} test images"
    draw_gradient_agreement(found.cosines, title, folder / "gradient_agreement.png")
    if trained.records:
        draw_curves(trained.records, folder / "training.png")


if __name__ == "__main__":
    main()
