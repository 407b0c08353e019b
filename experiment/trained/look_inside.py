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
from functools import partial
from pathlib import Path
from typing import Any

import torch

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.curves import draw_curves
from experiment.flag_parser import FlagParser, number
from experiment.packages import left_out_if_missing
from experiment.trained.activity import (
    LayerActivity,
    Trace,
    measure_activity,
    trace_potentials,
)
from experiment.trained.checkpoint import Trained, load_trained
from experiment.trained.command import (
    add_images_flag,
    batches_of,
    command,
    first_samples,
    make_parser,
    make_room,
    products_in,
    refuse_many,
    results_folder,
    sample_count,
)
from experiment.trained.gradient_agreement import gradient_agreement
from experiment.trained.inside_picture import (
    draw_branch_maps,
    draw_firing_rates,
    draw_gradient_agreement,
    draw_potentials,
)
from experiment.trained.table import format_table
from experiment.trained.tensorboard_log import EVENT_FILES, write_events
from model.inference.fold import fold
from util.distributed import Group
from util.record import write_json

IMAGES, GRADIENT_IMAGES = 128, 32  # if there are so many
PICTURES = ("firing_rates.png", "potentials.png", "branch_maps.png", "gradient_agreement.png",
            "training.png")  # fmt: skip
PRODUCTS = (*PICTURES, "look_inside.json", EVENT_FILES)


def get_parser() -> FlagParser:
    """Every flag with its default."""
    parser = make_parser(
        "Firing rates, membrane potentials, branch maps and gradient agreement of a trained "
        "network.", out="look_inside", batch_size=64,
    )  # fmt: skip
    add_images_flag(parser, IMAGES, "test images for firing rates")
    add = parser.add_argument
    add("--image", type=number(int, 0), default=0, metavar="NUMBER",
        help="test image for potentials and branch maps, counted from 0")  # fmt: skip
    add("--neuron", type=neuron_place, nargs="+", default=None, metavar="LAYER:PLACE",
        help="neurons whose potentials are drawn, such as stages.1.0.unit1:3,4,4 (channel, row, "
        "column); default: six of the first, the middle and the last layer")  # fmt: skip
    add("--gradient_images", type=number(int, 2), default=None, metavar="IMAGES",
        help="test images in the batch whose gradients are compared; default: "
        f"{GRADIENT_IMAGES}, or all if there are fewer")  # fmt: skip
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
    """Run the command line `argv` (default: the process's own); returns what look_inside.json has.

    Raises: SystemExit with code 2 for wrong arguments or input.
    """
    args = get_parser().parse_args(argv)
    sizes = {"batch_size": args.batch_size,
             "gradient_images": args.gradient_images or GRADIENT_IMAGES}  # fmt: skip
    with command(args.device, **sizes) as group:
        refuse_many(group)
        folder = results_folder(args.out, args.checkpoint, "look_inside")
        trained = load_trained(args.checkpoint, group.device, data_path=args.data_path)
        net, test = fold(trained.net), trained.data.test
        images = sample_count(args.images, IMAGES, test)
        count = sample_count(args.gradient_images, GRADIENT_IMAGES, test)
        chosen = first_samples(test, images)
        batch = first_samples(test, count, flag="gradient_images")
        image, label = test_image(trained, args.image, group)
        traces = trace_potentials(net, image, args.neuron)
        loaded = partial(batches_of, data=trained.data, num_workers=args.num_workers, group=group)
        layers = measure_activity(net, (x for x, _ in loaded(chosen, batch_size=args.batch_size)))
        cosines = gradient_agreement(trained, *next(loaded(batch, batch_size=count)))

        make_room(folder, PRODUCTS)
        result = report(layers, traces, cosines, trained)
        write_json(folder / "look_inside.json", result)
        print(describe(layers, cosines, images, count))
        title = f"{trained.title}, test image {args.image} ({trained.data.class_names[label]})"
        draw_potentials(traces, trained.net.neuron.threshold, title, folder / "potentials.png")
        if trained.net.branches:
            draw_branch_maps(trained.net, image, title, folder / "branch_maps.png")
        title = f"{trained.title}, {images} test images"
        draw_firing_rates(layers, title, folder / "firing_rates.png")
        title = f"{trained.title}, {count} test images"
        draw_gradient_agreement(cosines, title, folder / "gradient_agreement.png")
        if trained.records:
            draw_curves(trained.records, folder / "training.png")
        pictures = products_in(folder, PICTURES)
        with left_out_if_missing(lambda why: print(f"no TensorBoard events: {why}")):
            write_events(folder, pictures, layers, cosines, trained.records, step=trained.epochs)
        print("written: " + ", ".join(map(str, products_in(folder, PRODUCTS))))
    return result


def test_image(trained: Trained, index: int, group: Group) -> tuple[torch.Tensor, int]:
    """One test image as the network takes it, a batch of one, and its label.

    Raises: ValueError if there are not so many.
    """
    data = trained.data
    if index >= len(data.test):
        raise ValueError(f"--image {index}: expected 0 to {len(data.test) - 1}")
    image, label = data.test[index]
    return data.to_input(image[None].to(group.device)), int(label)


def report(
    layers: Sequence[LayerActivity], traces: Sequence[Trace], cosines: dict[str, float],
    trained: Trained,
) -> dict[str, Any]:  # fmt: skip
    """The numbers behind the pictures as plain types."""
    return {
        "checkpoint": str(trained.path),
        "layers": [
            {"name": layer.name, "neurons": layer.rates.numel(),
             "firing_rate": layer.rates.mean().item(), "silent": layer.silent,
             "saturated": layer.saturated}
            for layer in layers
        ],
        "potentials": [
            {"neuron": trace.label, "before_reset": trace.before.tolist(),
             "after_reset": trace.after.tolist(), "spikes": trace.spikes.int().tolist()}
            for trace in traces
        ],
        "gradient_cosine": cosines,
    }  # fmt: skip


def describe(
    layers: Sequence[LayerActivity], cosines: dict[str, float], images: int, batch: int
) -> str:
    """The tables for a terminal."""
    rows = [
        (layer.name, f"{layer.rates.numel():,}", f"{layer.rates.mean():.3f}",
         f"{100 * layer.silent:.1f}", f"{100 * layer.saturated:.1f}",
         f"{cosines[layer.name]:.3f}" if layer.name in cosines else "")
        for layer in layers
    ]  # fmt: skip
    header = ("spiking layer", "neurons", "firing rate", "silent (%)", "saturated (%)",
              "gradient cosine")  # fmt: skip
    return "\n".join([
        format_table(header, rows), "",
        f"silent: no spike on {images} test images; saturated: a spike at every step of all",
        f"gradient cosine: rate-based against BPTT on {batch} test images; all weights together "
        f"{cosines['all']:.3f}",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
