"""Estimate what a trained network computes per image, and the energy of it, layer by layer.

    python experiment/trained/energy.py runs/FOLDER/best.pt

Prints a table and writes energy.json and energy.png. What the numbers mean and what they leave out
is said in `operations`. Batch norms are folded first: in inference they cost nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.flag_parser import FlagParser
from experiment.trained.checkpoint import Trained, load_trained
from experiment.trained.command import (
    add_images_flag,
    batches_of,
    command,
    first_samples,
    make_parser,
    make_room,
    refuse_many,
    results_folder,
    sample_count,
)
from experiment.trained.operations import E_AC, E_MAC, Operations, count_operations, mean_operations
from experiment.trained.table import format_table
from model.inference.fold import fold
from util.distributed import Group
from util.figure import BLUE, GRAY, RED, drawing
from util.record import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = 64  # averaged over, if there are so many
NOT_COUNTED = (
    "not counted: decay multiplications, comparisons with the threshold, biases; memory traffic, "
    "control, leakage"
)


def get_parser() -> FlagParser:
    """Every flag with its default."""
    parser = make_parser(
        f"MACs, synaptic operations and energy ({E_MAC} pJ per MAC, {E_AC} pJ per AC, 45 nm) of "
        "a trained network, per layer, beside the same network without spikes.",
        out="energy", batch_size=32,
    )  # fmt: skip
    add_images_flag(parser, IMAGES, "test images to average over")
    return parser


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line `argv` (default: the process's own); returns what it writes.

    Raises: SystemExit with code 2 for wrong arguments or input.
    """
    args = get_parser().parse_args(argv)
    with command(args.device, batch_size=args.batch_size) as group:
        refuse_many(group)
        folder = results_folder(args.out, args.checkpoint, "energy")
        trained = load_trained(args.checkpoint, group.device, data_path=args.data_path)
        images = sample_count(args.images, IMAGES, trained.data.test)
        operations = measure(
            trained, images=images, batch_size=args.batch_size,
            num_workers=args.num_workers, group=group,
        )  # fmt: skip
        result = report(operations, trained, images)
        make_room(folder)
        write_json(folder / "energy.json", result)
        print(describe(operations, images))
        draw_energy(operations, trained.title, images, folder / "energy.png")
        print(f"written: {folder / 'energy.json'}, {folder / 'energy.png'}")
    return result


def measure(
    trained: Trained, *, images: int, batch_size: int = 32, num_workers: int = 0, group: Group
) -> Operations:
    """Mean operations per image over the first test images."""
    net = fold(trained.net)
    dataset = first_samples(trained.data.test, images)
    counted, sizes = [], []
    for x, labels in batches_of(
        dataset, trained.data, batch_size=batch_size, num_workers=num_workers, group=group
    ):
        counted.append(count_operations(net, x))
        sizes.append(len(labels))
    return mean_operations(counted, sizes)


def report(operations: Operations, trained: Trained, images: int) -> dict[str, Any]:
    """Everything as plain types; energies in pJ per image."""
    return {
        "checkpoint": str(trained.path),
        "images": images,
        "T": trained.net.T,
        "pJ_per_mac": E_MAC,
        "pJ_per_ac": E_AC,
        "not_counted": NOT_COUNTED,
        "layers": [
            {**layer._asdict(), "energy_pJ": layer.energy, "ann_energy_pJ": layer.ann_energy}
            for layer in operations.layers
        ],
        "other_acs": operations.other_acs,
        "ann_other_acs": operations.ann_other_acs,
        "macs": operations.total("macs"),
        "synops": operations.total("acs"),
        "energy_pJ": operations.energy,
        "ann_macs": operations.total("ann_macs"),
        "ann_energy_pJ": operations.ann_energy,
        "spikingjelly_compute_energy_pJ": operations.simple_energy,
        "firing_rate": operations.firing_rates,
    }


def describe(operations: Operations, images: int) -> str:
    """The table and the totals for a terminal."""
    header = ("layer", "firing rate", "MACs", "SynOps", "energy (nJ)", "ANN MACs", "ANN (nJ)")
    rates = operations.firing_rates
    rows = [
        (layer.name, _rate(rates.get(layer.name.removesuffix(".conv"))), f"{layer.macs:,.0f}",
         f"{layer.acs:,.0f}", f"{layer.energy / 1e3:,.1f}", f"{layer.ann_macs:,.0f}",
         f"{layer.ann_energy / 1e3:,.1f}")
        for layer in operations.layers
    ]  # fmt: skip
    rows.append(("neurons, sums, pooling", "", "0", f"{operations.other_acs:,.0f} AC",
                 f"{E_AC * operations.other_acs / 1e3:,.1f}", f"{operations.ann_other_acs:,.0f} AC",
                 f"{E_AC * operations.ann_other_acs / 1e3:,.1f}"))  # fmt: skip
    rows.append(("total", _rate(mean_rate(rates)), f"{operations.total('macs'):,.0f}",
                 f"{operations.total('acs'):,.0f}", f"{operations.energy / 1e3:,.1f}",
                 f"{operations.total('ann_macs'):,.0f}", f"{operations.ann_energy / 1e3:,.1f}",
                 ))  # fmt: skip
    ratio = operations.ann_energy / operations.energy
    share = 100 * (operations.simple_energy / operations.energy - 1)
    return "\n".join([
        format_table(header, rows), "",
        f"means per image over {images} test images; 45 nm: {E_MAC} pJ per MAC, {E_AC} pJ per AC",
        f"the spiking network takes {operations.energy / 1e6:.3f} µJ, the same network without "
        f"spikes {operations.ann_energy / 1e6:.3f} µJ: {ratio:.2f} times as much",
        f"spikingjelly's estimate_simple_energy says {operations.simple_energy / 1e6:.3f} µJ of "
        f"compute energy ({share:+.2f} %; it also counts the sums of its own memory counter)",
        NOT_COUNTED,
    ])  # fmt: skip


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.3f}"


def mean_rate(rates: dict[str, float]) -> float:
    """Mean over the layers, not over the neurons."""
    return sum(rates.values()) / len(rates)


def draw_energy(operations: Operations, title: str, images: int, path: Path) -> None:
    """Bars of energy and firing rate per layer; the file appears whole."""
    title = (
        f"{title}: {operations.energy / 1e6:.3f} µJ per image with spikes, "
        f"{operations.ann_energy / 1e6:.3f} µJ without"
    )
    with drawing(path, 12, 1.8 + 0.3 * max(len(operations.layers), 6), title) as figure:
        energy, rate = figure.subplots(1, 2, width_ratios=(2, 1))
        _draw_energies(energy, operations)
        energy.set_title(f"{E_MAC} pJ per MAC, {E_AC} pJ per AC (45 nm), {images} images")
        rates = operations.firing_rates
        rate.barh(range(len(rates)), list(rates.values()), color=RED)
        rate.set_yticks(range(len(rates)), list(rates))
        rate.invert_yaxis()
        rate.set(xlabel="spikes per neuron and time step", ylabel="spiking layer",
                 title="firing rate")  # fmt: skip
        rate.grid(axis="x", alpha=0.3)


def _draw_energies(panel: Axes, operations: Operations) -> None:
    rows = [(layer.name, layer.energy, layer.ann_energy) for layer in operations.layers]
    rows.append(("neurons, sums, pooling", E_AC * operations.other_acs,
                 E_AC * operations.ann_other_acs))  # fmt: skip
    names, spiking, dense = zip(*rows, strict=True)
    places = range(len(rows))
    panel.barh([y - 0.2 for y in places], [e / 1e3 for e in spiking], 0.4, color=BLUE,
               label="spiking network")  # fmt: skip
    panel.barh([y + 0.2 for y in places], [e / 1e3 for e in dense], 0.4, color=GRAY,
               label="same network without spikes")  # fmt: skip
    panel.set_yticks(places, names)
    panel.invert_yaxis()
    panel.set(xlabel="energy per image (nJ)", ylabel="layer")
    panel.legend()
    panel.grid(axis="x", alpha=0.3)


if __name__ == "__main__":
    main()
