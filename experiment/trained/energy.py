"""Estimate what a trained network computes per image, and the energy of it, layer by layer.

    python experiment/trained/energy.py runs/FOLDER/best.pt

Prints a table and writes energy.json and energy.png. What the numbers mean and what they leave out
is said in `operations`. Batch norms are folded first: in inference they cost nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.flag.parser import FlagParser
from experiment.trained.part.checkpoint_command import checkpoint_parser, opened
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.operations import (
    E_AC,
    E_MAC,
    Operations,
    count_operations,
    mean_operations,
)
from experiment.trained.part.trained_network import Trained
from model.inference.fold import fold
from util.figure import BLUE, GRAY, RED, drawing, markdown_table
from util.file.record import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PRODUCTS = ("energy.json", "energy.png")
IMAGES = 64  # averaged over, if there are so many
NOT_COUNTED = (
    "not counted: decay multiplications, comparisons with the threshold, biases; memory traffic, "
    "control, leakage"
)
OTHER = "neurons, sums, pooling"  # of which no layer with weights consists
HEADER = ("layer", "firing rate", "MACs", "SynOps", "energy (nJ)", "ANN MACs", "ANN (nJ)")


def get_parser() -> FlagParser:
    description = (
        f"MACs, synaptic operations and energy ({E_MAC} pJ per MAC, {E_AC} pJ per AC, 45 nm) of a "
        "trained network, per layer, beside the same network without spikes."
    )
    text = "test images to average over"
    return checkpoint_parser(description, out="energy", images=text, usual=IMAGES, batch_size=32)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line; returns what it writes. Raises: SystemExit(2) for wrong input."""
    args = get_parser().parse_args(argv)
    with opened(args, "energy", PRODUCTS) as (trained, results, tests):
        chosen = tests.first(args.images, IMAGES)
        operations = operations_per_image(trained, chosen)
        result = energy_report(operations, trained, chosen.samples)
        folder = results.make_room()
        write_json(folder / "energy.json", result)
        print(energy_table(operations, chosen.samples))
        draw_energy(operations, trained.title, chosen.samples, folder / "energy.png")
        results.print_written()
    return result


def operations_per_image(trained: Trained, chosen: EvaluationSet) -> Operations:
    """Mean operations per image over the test images chosen."""
    net = fold(trained.net)
    counted = [(count_operations(net, x), len(labels)) for x, labels in chosen.batches()]
    return mean_operations(*zip(*counted, strict=True))


def energy_report(operations: Operations, trained: Trained, images: int) -> dict[str, Any]:
    """Everything as plain types; energies in pJ per image."""
    layers = [
        {**layer._asdict(), "energy_pJ": layer.energy, "ann_energy_pJ": layer.ann_energy}
        for layer in operations.layers
    ]
    return {
        "checkpoint": str(trained.path),
        "images": images,
        "T": trained.net.T,
        "pJ_per_mac": E_MAC,
        "pJ_per_ac": E_AC,
        "not_counted": NOT_COUNTED,
        "layers": layers,
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


def energy_table(operations: Operations, images: int) -> str:
    ratio = operations.ann_energy / operations.energy
    share = 100 * (operations.simple_energy / operations.energy - 1)
    lines = [
        markdown_table(HEADER, list(_rows(operations))),
        "",
        f"means per image over {images} test images; 45 nm: {E_MAC} pJ per MAC, {E_AC} pJ per AC",
        f"the spiking network takes {operations.energy / 1e6:.3f} µJ, the same network without "
        f"spikes {operations.ann_energy / 1e6:.3f} µJ: {ratio:.2f} times as much",
        f"spikingjelly's estimate_simple_energy says {operations.simple_energy / 1e6:.3f} µJ of "
        f"compute energy ({share:+.2f} %; it also counts the sums of its own memory counter)",
        NOT_COUNTED,
    ]
    return "\n".join(lines)


def _rows(operations: Operations) -> Iterator[Sequence[str]]:
    """The cells of the layers with weights, of all else, and of the sum; energies in nJ."""
    total, other, ann_other = operations.total, operations.other_acs, operations.ann_other_acs
    sums = total("macs"), total("acs"), operations.energy, total("ann_macs"), operations.ann_energy
    costs = [
        (layer.name, layer.macs, layer.acs, layer.energy, layer.ann_macs, layer.ann_energy)
        for layer in operations.layers
    ]
    costs.append((OTHER, 0, other, E_AC * other, ann_other, E_AC * ann_other))
    costs.append(("total", *sums))
    rates = {f"{name}.conv": rate for name, rate in operations.firing_rates.items()}
    rates |= operations.firing_rates
    rates["total"] = sum(operations.firing_rates.values()) / len(operations.firing_rates)
    for name, macs, acs, energy, ann_macs, ann_energy in costs:
        unit = " AC" if name == OTHER else ""
        rate = f"{rates[name]:.3f}" if name in rates else ""
        counts = f"{macs:,.0f}", f"{acs:,.0f}{unit}", f"{energy / 1e3:,.1f}"
        yield name, rate, *counts, f"{ann_macs:,.0f}{unit}", f"{ann_energy / 1e3:,.1f}"


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
        rate.set(xlabel="spikes per neuron and time step", ylabel="spiking layer")
        rate.set_title("firing rate")
        rate.grid(axis="x", alpha=0.3)


def _draw_energies(panel: Axes, operations: Operations) -> None:
    rows = [(layer.name, layer.energy, layer.ann_energy) for layer in operations.layers]
    rows.append((OTHER, E_AC * operations.other_acs, E_AC * operations.ann_other_acs))
    names, *energies = zip(*rows, strict=True)
    places = range(len(rows))
    kinds = ((-0.2, BLUE, "spiking network"), (0.2, GRAY, "same network without spikes"))
    for (shift, color, label), values in zip(kinds, energies, strict=True):
        nanojoules = [picojoules / 1e3 for picojoules in values]
        panel.barh([y + shift for y in places], nanojoules, 0.4, color=color, label=label)
    panel.set_yticks(places, names)
    panel.invert_yaxis()
    panel.set(xlabel="energy per image (nJ)", ylabel="layer")
    panel.legend()
    panel.grid(axis="x", alpha=0.3)


if __name__ == "__main__":
    main()
