"""The model card: what the exported network is, what it can do, and what it cannot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiment.flag.amp import PRECISIONS
from experiment.flag.lookup import defaults_of, flags_of, names_of
from experiment.flag.row import Role, without_effect
from experiment.trained.part.formats import FORMATS
from experiment.trained.part.trained_network import Trained
from model.registry import teacher_named
from util.figure import as_utf8, markdown_table
from util.file.atomic import write_atomically

RECIPE = (Role.DATA, Role.METHOD, Role.TRAINING)
WHITE_ON_BLACK = ("Digits", "MNIST", "FashionMNIST")
# Of these the data set says what was applied in the end.
APPLIED = ("crop", "flip", "auto_aug", "cutout")


def write_card(result: dict[str, Any], trained: Trained, path: Path) -> None:
    """Write card.md from what export.py measured."""
    network, data = result["description"]["network"], trained.data.name
    title = f"# {network['arch']} with spikes, T = {network['T']}, for {data}"
    kind = "; its weights are averages over the training's steps" if trained.averaged else ""
    about = (
        f"A spiking neural network, trained for {trained.epochs} epochs{kind}; its training "
        "branches are removed and its batch norms are folded into the convolutions."
    )
    verified = {"folded, float64": result["float64"], "folded, float32": result["float32"]}
    files = {f"`{FORMATS[name].file}`": FORMATS[name].text for name in result["formats"]}
    sections = {
        "Files": _bullets(files),
        "Network": _network(result),
        "Input": input_section(result["description"], trained.net.T),
        "Training": _training(network, trained),
        "Accuracy": _accuracy(result["accuracy"], trained.arguments["amp"]),
        "Firing rates and energy": _energy(result["energy"]),
        "Verified": _bullets(verified | read_back(result)),
        "Limits": "\n".join(f"- {limit}" for limit in limits(trained)),
    }
    parts = [title, about, *(f"## {name}\n\n{text}" for name, text in sections.items())]
    write_atomically(path, as_utf8("\n\n".join(parts) + "\n"))


def read_back(result: dict[str, Any]) -> dict[str, str]:
    """What reading files back has shown, by file."""
    return {
        f"{FORMATS[name].file}, read back": result[name]
        for name in result["formats"]
        if name in result
    }


def _network(result: dict[str, Any]) -> str:
    network = result["description"]["network"]
    reset = "soft reset" if network["v_reset"] is None else f"hard reset to {network['v_reset']:g}"
    about = {
        "arch": f"{network['arch']}, width {result['width']}, stem {network['stem']}",
        "parameters": f"{result['parameters']:,}",
        "neuron": f"LIF, decay {network['decay']:g}, threshold {network['thresh']:g}, {reset}",
        "time steps": f"T = {network['T']}",
        "read-out": result["description"]["read_out"],
    }
    if "nir" in result["formats"]:
        about["time step of graph.nir"] = f"dt = {result['nir_dt']:g} s"
    return _bullets(about)


def input_section(description: dict[str, Any], steps: int) -> str:
    """What the network takes, and what predict.py makes it from."""
    side, channels = description["image_size"], description["network"]["in_channels"]
    shape = f"{channels} x {side} x {side}"
    if description["kind"] == "events":
        return (
            f"{steps} frames of {shape} event counts (OFF, ON), as float32 (T, B, C, H, W): of "
            "recorded events, each frame has the same number (of recorded frames, neighbours are "
            f"added up), resized{_from_sensor(description)}."
        )
    mean, std = ([round(value, 4) for value in description[name]] for name in ("mean", "std"))
    ink = " It has to be white on black: nothing is inverted."
    return (
        f"An image of {shape} pixels, (pixel / 255 - mean) / std with mean {mean} and std {std} "
        "per channel, as float32 (B, C, H, W). `predict.py` resizes the shorter side of a picture "
        f"to {description['resize']} pixels, and cuts out the centre."
        f"{ink if description['data'] in WHITE_ON_BLACK else ''}"
    )


def _from_sensor(description: dict[str, Any]) -> str:
    size = description.get("sensor_size")  # exports of earlier versions do not know
    return "" if size is None else " from a sensor of {} x {} pixels".format(*size)


def _training(network: dict[str, Any], trained: Trained) -> str:
    data = trained.description
    about = (
        f"Data: {trained.data.name}, {data.training_samples:,} samples to train, "
        f"{data.test_samples:,} to test, {network['num_classes']} classes."
    )
    return f"{about}\n\n{_bullets(recipe(trained))}"


def _accuracy(accuracy: dict[str, Any], amp: str) -> str:
    about = (
        f"Top-1 {accuracy['top1']:.2f} %, top-5 {accuracy['top5']:.2f} % of "
        f"{accuracy['samples']:,} test samples; calibration error (ECE) "
        f"{accuracy['calibration']['ece']:.2f} %. All numbers here are of the network in these "
        "files, computed in float32."
    )
    about += precision_note(amp)
    steps = [(str(row["t"]), f"{row['top1']:.2f}") for row in accuracy["steps"]]
    return f"{about}\n\n{markdown_table(('time steps taken', 'top-1 (%)'), steps)}"


def precision_note(amp: str) -> str:
    """What --amp of the training, other than "none", means for these numbers."""
    if amp == "none":
        return ""
    note = f" It was trained with `--amp {amp}`: {PRECISIONS[amp].text}."
    if PRECISIONS[amp].is_of_rates:
        return note
    return f"{note} It was evaluated so too, and what the run itself reports may differ."


def _energy(energy: dict[str, Any]) -> str:
    about = (
        f"Means per image over {energy['images']} test images; {energy['pJ_per_mac']} pJ per MAC, "
        f"{energy['pJ_per_ac']} pJ per AC (45 nm). {energy['not_counted'].capitalize()}."
    )
    macs, ann_macs, synops = (f"{energy[name]:,.0f}" for name in ("macs", "ann_macs", "synops"))
    spiking, dense = (f"{energy[name] / 1e6:.3f}" for name in ("energy_pJ", "ann_energy_pJ"))
    rows = [
        ("spiking network", macs, synops, spiking),
        ("same network without spikes", ann_macs, "0", dense),
    ]
    costs = markdown_table(("", "MACs", "SynOps", "energy (µJ)"), rows)
    rates = [(name, f"{rate:.3f}") for name, rate in energy["firing_rate"].items()]
    header = ("spiking layer", "spikes per neuron and time step")
    return "\n\n".join([about, costs, markdown_table(header, rates)])


def recipe(trained: Trained) -> dict[str, Any]:
    """The flags that say how it was trained, but for what is off by default or has no effect."""
    asked = argparse.Namespace(**trained.arguments)
    silent = without_effect(flags_of(asked.dataset), asked) - set(APPLIED)
    if not trained.averaged and ("teacher" in silent or not teacher_named(asked.teacher).averaged):
        silent.add("ema")  # these are the weights beside the average, which did nothing to them
    applied = {name: getattr(trained.data, name, None) for name in APPLIED}
    values = trained.arguments | applied
    off = {name for name, usual in defaults_of(asked.dataset).items() if not usual} - set(APPLIED)
    names = [name for name in names_of(asked.dataset, *RECIPE) if name not in silent]
    found = {name: values[name] for name in names if values[name] or name not in off}
    found = {name: value for name, value in found.items() if value is not None}
    if "init" in found:  # the run's folder and the file, not where they lie on this machine
        found["init"] = Path(*found["init"].parts[-2:])
    return found


def limits(trained: Trained) -> list[str]:
    """What the numbers above do not promise."""
    chosen_on = "test" if trained.data.validation is None else "validation"
    return [
        f"it knows the {len(trained.data.class_names)} classes of {trained.data.name} and answers "
        "with one of them whatever it is shown",
        f"the best epoch of a run is chosen on the {chosen_on} set"
        + (", so a best.pt's accuracy is optimistic" if chosen_on == "test" else ""),
        "in float32 rounding may flip single spikes between machines and formats",
        "energy is counted in operations, not measured on a chip",
    ]


def _bullets(entries: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in entries.items())
