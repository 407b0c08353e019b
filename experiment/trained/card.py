"""The model card: what the exported network is, what it can do, and what it cannot."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiment.trained.checkpoint import Trained, experiment_of
from experiment.trained.table import format_table
from util.atomic_file import write_atomically
from util.text import as_utf8

RECIPE = ("method", "seed", "train_batch_size", "accum", "sync_bn", "num_epoch", "optim", "lr",
          "wd", "scheduler", "alp", "beta", "teacher", "detach_reset", "split", "shuffle_frames",
          "auto_aug", "cutout", "gpu_aug", "event_aug", "amp", "val_fraction")  # fmt: skip
APPLIED = ("auto_aug", "cutout")  # of which the data set says what was applied in the end
FILES = {
    "safetensors": "`model.safetensors`: weights of `model.inference.folded.FoldedNetwork`, read "
    "with `experiment.trained.exported.read_weights`",
    "program": "`program.pt2`: `torch.export.load(\"program.pt2\").module()(images)` gives the "
    "logits of every time step, (T, B, K), for any number of images",
    "nir": "`graph.nir`: one image in, the logits of one time step out; `nir.read` reads it",
}  # fmt: skip


def write_card(result: dict[str, Any], trained: Trained, path: Path) -> None:
    """Write card.md from what export.py measured."""
    network, accuracy, energy = (
        result["description"]["network"],
        result["accuracy"],
        result["energy"],
    )
    sections = [
        f"# {network['arch']} with spikes, T = {network['T']}, for {trained.data.name}",
        f"A spiking neural network, trained for {trained.epochs} epochs; its training branches are "
        "removed and its batch norms are folded into the convolutions.",
        "## Files",
        "\n".join(f"- {FILES[name]}" for name in result["formats"]),
        "## Input",
        describe_input(result["description"], trained.net.T),
        "## Training",
        f"Data: {trained.data.name}, {trained.description.training_samples:,} samples to train, "
        f"{trained.description.test_samples:,} to test, {network['num_classes']} classes.",
        bullets({"neuron": describe_neuron(network), **recipe(trained)}),
        "## Accuracy",
        f"Top-1 {accuracy['top1']:.2f} %, top-5 {accuracy['top5']:.2f} % of "
        f"{accuracy['samples']:,} test samples; calibration error (ECE) "
        f"{accuracy['calibration']['ece']:.2f} %. {describe_precision(trained.arguments['amp'])}",
        format_table(
            ("time steps taken", "top-1 (%)"),
            [(str(row["t"]), f"{row['top1']:.2f}") for row in accuracy["steps"]],
        ),
        "## Firing rates and energy",
        f"Means per image over {energy['images']} test images; {energy['pJ_per_mac']} pJ per MAC, "
        f"{energy['pJ_per_ac']} pJ per AC (45 nm). {energy['not_counted'].capitalize()}.",
        format_table(
            ("", "MACs", "SynOps", "energy (µJ)"),
            [("spiking network", f"{energy['macs']:,.0f}", f"{energy['synops']:,.0f}",
              f"{energy['energy_pJ'] / 1e6:.3f}"),
             ("same network without spikes", f"{energy['ann_macs']:,.0f}", "0",
              f"{energy['ann_energy_pJ'] / 1e6:.3f}")],
        ),
        format_table(
            ("spiking layer", "spikes per neuron and time step"),
            [(name, f"{rate:.3f}") for name, rate in energy["firing_rate"].items()],
        ),
        "## Verified",
        bullets({"folded, float64": result["float64"], "folded, float32": result["float32"],
                 **({"program.pt2, read back": result["program"]} if "program" in result else {})}),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(trained)),
    ]  # fmt: skip
    write_atomically(path, as_utf8("\n\n".join(sections) + "\n"))


def describe_input(description: dict[str, Any], steps: int) -> str:
    """How to prepare what the network takes."""
    side, channels = description["image_size"], description["network"]["in_channels"]
    shape = f"{channels} x {side} x {side}"
    if description["kind"] == "events":
        return (f"{steps} frames of {shape} event counts (OFF, ON), each with the same number of "
                "events, as float32 (T, B, C, H, W).")  # fmt: skip
    mean, std = ([round(value, 4) for value in description[name]] for name in ("mean", "std"))
    return (f"An image of {shape} pixels, (pixel / 255 - mean) / std with mean {mean} and std "
            f"{std} per channel, as float32 (B, C, H, W).")  # fmt: skip


def describe_neuron(network: dict[str, Any]) -> str:
    """The neurons' constants in words."""
    reset = "soft reset" if network["v_reset"] is None else f"hard reset to {network['v_reset']:g}"
    return f"LIF, decay {network['decay']:g}, threshold {network['thresh']:g}, {reset}"


def describe_precision(amp: str) -> str:
    """In which precision the numbers of the card hold, and the training's if it was another."""
    text = "All numbers here are of the network in these files, computed in float32."
    if amp == "bf16":
        text += (" It was trained and evaluated in bfloat16 (`--amp bf16`), so what the run "
                 "itself reports may differ.")  # fmt: skip
    return text


def recipe(trained: Trained) -> dict[str, Any]:
    """The flags that say how it was trained, but for those not given and those without effect."""
    asked = argparse.Namespace(**trained.arguments)
    rules = experiment_of(asked.dataset, trained.path).get_parser().idle
    idle = {flag for rule in rules if rule.applies(asked) for flag in rule.flags}
    # --sync_bn is idle in this command's one process; the training may have had several.
    idle -= {"sync_bn", *APPLIED}
    applied = {name: getattr(trained.data, name, None) for name in APPLIED}
    values = {name: trained.arguments.get(name) for name in RECIPE} | applied
    return {name: values[name] for name in RECIPE if values[name] is not None and name not in idle}


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


def bullets(entries: dict[str, Any]) -> str:
    """A Markdown list of names and values."""
    return "\n".join(f"- {name}: {value}" for name, value in entries.items())
