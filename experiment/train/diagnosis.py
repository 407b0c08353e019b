"""Signs in an epoch's record that a run learns nothing, and what to try against each.

docs/troubleshooting.md says what was seen of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from experiment.data_description import DataDescription
from experiment.train.folder import evaluated

SILENT, SATURATED = 1e-4, 0.999  # spikes per neuron and time step, of a layer in the test
DEVIATIONS = 3  # of the binomial distribution, that are still called chance
SETTLED = 40  # steps after which batch norm's running statistics hold 0.9^40 of where they began
FIRST_STEPS = 200  # in which a run that learns may guess; one of docs/comparison did for 82
NAMED = 5  # layers in a sentence


def diagnose(
    records: Sequence[dict[str, Any]], data: DataDescription | None, steps_per_epoch: int
) -> str | None:
    """What the newest epoch shows and none before it did, in one line; None if there is nothing.

    records: those of the run so far; data: what it is trained on; None: nothing is said of chance.
    """
    *earlier, newest = (symptoms(record, data, steps_per_epoch) for record in records)
    known = {kind for found in earlier for kind in found}
    new = [sentence for kind, sentence in newest.items() if kind not in known]
    return "; ".join([*new, "docs/troubleshooting.md has more"]) if new else None


def symptoms(
    record: dict[str, Any], data: DataDescription | None, steps_per_epoch: int
) -> dict[str, str]:
    """A sentence for each kind of symptom in an epoch's record; none without an evaluation."""
    if not evaluated([record]):
        return {}
    steps = (record["epoch"] + 1) * steps_per_epoch
    rates = record["test"]["firing_rate"] if steps >= SETTLED else {}
    silent = [name for name, rate in rates.items() if rate < SILENT]
    saturated = [name for name, rate in rates.items() if rate > SATURATED]
    found = {}
    if silent:
        found["silent"] = (
            f"no spikes from {_listed(silent, len(rates))}: try a lower --thresh or a smaller --lr"
        )
    if saturated:
        found["saturated"] = (
            f"a spike at every time step from {_listed(saturated, len(rates))}: try a higher "
            "--thresh or a smaller --lr"
        )
    if steps >= FIRST_STEPS and data is not None and is_at_chance(record, data):
        found["chance"] = (
            f"no head is better than a guess among {data.num_classes} classes, in training or "
            "test: try a smaller --lr, or --optim Adam --lr 0.001"
        )
    return found


def is_at_chance(record: dict[str, Any], data: DataDescription) -> bool:
    """Whether guessing explains the accuracy of every head, in training and in the test."""
    chance = 1 / data.num_classes
    samples = {"train": data.training_samples, "test": data.test_samples}
    bounds = {
        part: chance + DEVIATIONS * sqrt(chance * (1 - chance) / count)
        for part, count in samples.items()
    }
    return all(max(record[part]["head_top1"]) < 100 * bound for part, bound in bounds.items())


def _listed(layers: Sequence[str], number_of_all: int) -> str:
    if len(layers) == number_of_all:
        return f"all {number_of_all} spiking layers"
    more = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
    return ", ".join(layers[:NAMED]) + more
