"""What is said of a run that learns nothing: once, of what, and never of one that learns."""

import json
from math import ceil
from pathlib import Path

import pytest

from experiment.data_description import DataDescription
from experiment.train.diagnosis import FIRST_STEPS, SETTLED, diagnose
from experiment.train.folder import evaluated
from tests.support.recorded import record_of

DIGITS = DataDescription("Digits", "images", tuple("0123456789"), 1437, 360, 1, 8, 8)
COMPARISONS = sorted((Path(__file__).parents[3] / "docs" / "comparison").glob("*.json"))


def record(training, test, rates=(0.2, 0.1), epoch=0):
    """training, test: accuracies of every head."""
    found = record_of(epoch, len(test), test[-1])
    found["train"]["head_top1"], found["test"]["head_top1"] = list(training), list(test)
    found["test"]["firing_rate"] = {f"layer{i}": rate for i, rate in enumerate(rates)}
    return found


GUESSES = record([9.0, 12.3], [14.0, 10.0])
SAYS_CHANCE = "no head is better than a guess among 10 classes, in training or test: try a smaller"


def said(records, steps=FIRST_STEPS):
    """What is said after each epoch."""
    return [diagnose(records[: count + 1], DIGITS, steps) for count in range(len(records))]


def test_what_guessing_explains_is_said_once():
    first, *others = said([GUESSES] * 3)
    assert first.startswith(SAYS_CHANCE) and "\n" not in first
    assert others == [None, None]


@pytest.mark.parametrize(
    "learning",
    [
        record([9.0, 12.5], [10.0, 10.0]),  # three deviations of 1,437 guesses are 2.4 points
        record([12.5, 9.0], [10.0, 10.0]),  # of any head
        record([10.0, 10.0], [14.8, 10.0]),  # of 360, 4.7
    ],
)
def test_what_guessing_does_not_explain_is_no_chance(learning):
    assert said([learning]) == [None]


def test_the_first_steps_may_be_guesses():
    records = [record([10.0], [10.0], epoch=epoch) for epoch in range(5)]
    found = said(records, FIRST_STEPS // 4 + 1)
    assert [bool(sentence) for sentence in found] == [False, False, False, True, False]


def test_nothing_is_said_of_an_epoch_without_an_evaluation():
    silent = record([9.0], [10.0], (0.0,))
    unseen = {name: value for name, value in silent.items() if name != "test"}
    first, second, *others = said([unseen, silent, unseen, silent])
    assert first is None and "no spikes" in second and SAYS_CHANCE in second
    assert others == [None, None]


def test_without_a_description_of_the_data_chance_is_not_known():
    assert diagnose([GUESSES], None, FIRST_STEPS) is None


@pytest.mark.parametrize(
    ("rates", "sentence"),
    [
        ((0.2, 1e-4), None),
        ((0.2, 9e-5), "no spikes from layer1: try a lower --thresh"),
        ((0.0,) * 9, "no spikes from all 9 spiking layers: try"),
        ((0.1, *(0.0,) * 7), "no spikes from layer1, layer2, layer3, layer4, layer5 and 2 more: "),
        ((0.2, 0.9995), "a spike at every time step from layer1: try a higher --thresh"),
        ((0.0, 1.0), "no spikes from layer0: try a lower --thresh or a smaller --lr; a spike at"),
    ],
)
def test_layers_that_say_nothing_are_named_once(rates, sentence):
    found = record([50.0], [50.0], rates)
    first, second = said([found, found])
    assert second is None
    assert (first is None) == (sentence is None)
    assert first is None or (first.startswith(sentence) and first.count("\n") == 0)


def test_layers_may_be_silent_until_running_statistics_are_those_of_the_data():
    records = [record([50.0], [50.0], (0.0,), epoch=epoch) for epoch in range(4)]
    found = said(records, SETTLED // 3 + 1)
    assert [bool(sentence) for sentence in found] == [False, False, True, False]


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_nothing_is_said_of_the_recorded_runs_all_of_which_learned(path):
    for row in json.loads(path.read_bytes())["rows"]:
        for run in row["runs"].values():
            records = list(recorded(run))
            assert len(evaluated(records)) == len(run["by_epoch"])
            assert not any(said(records, steps_per_epoch(row["flags"]))), row["name"]


def recorded(run):
    """The records of a run of a comparison, as far as they are known; some were evaluated."""
    every = len(run["reliable"]) // len(run["by_epoch"])
    tests = dict(zip(range(every - 1, len(run["reliable"]), every), run["by_epoch"], strict=True))
    for epoch, right in enumerate(run["reliable"]):
        # What is known is how often some head was right: the best one, at least this often.
        found = record([right / len(run["heads"])], [tests.get(epoch, 0.0)], epoch=epoch)
        if epoch not in tests:
            del found["test"]
        yield found


def steps_per_epoch(flags):
    """Of 32 digits or 128 pictures of clothes, whose validation part is not trained on."""
    if "Digits" in flags:
        return 41
    if "--train_per_class" in flags:
        return ceil(10 * int(flags[flags.index("--train_per_class") + 1]) / 128)
    return 422
