"""A run that goes on ends as one that was never interrupted, bit for bit."""

import json
import math
import shutil

import pytest

from experiment.train import loop
from experiment.train.recorder import Recorder
from experiment.train.update import Update
from tests.fault.micro_run import digest, outcome
from tests.support.finished_run import run
from tests.support.interrupted_run import (
    Interruption,
    alone,
    interrupted_run,
    interruption_of,
    stop_after,
)
from util.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize(
    ("which", "begin_with", "go_on_with"),
    [(1, "0", "0"), (3, "0", "2"), (5, "2", "0"), (7, "1", "2")],
)
def test_interrupted_and_resumed_equals_unbroken(which, begin_with, go_on_with, finished, tmp_path):
    begin = ("--num_workers", begin_with)
    folder = interrupted_run(tmp_path, Update, "__call__", interruption_of(which), *begin)
    again = run(tmp_path, "--resume", "auto", "--num_workers", go_on_with)
    assert again == (folder, finished.result | {"folder": str(folder)})
    assert outcome(folder) == outcome(finished.folder)


RECIPE = ["--warmup", "1.25", "--clip_norm", "0.5", "--label_smoothing", "0.1"]


@pytest.fixture(scope="module")
def warmed_up(tmp_path_factory):
    return run(tmp_path_factory.mktemp("warmed_up"), *RECIPE)


@pytest.mark.parametrize(
    ("target", "name", "after"),
    [(Update, "__call__", 3), (Update, "__call__", 4), (loop, "evaluate", 0)],
)
def test_a_warm_up_goes_on_exactly(target, name, after, warmed_up, finished, tmp_path):
    """In mid-epoch, in the next epoch, and in an evaluation, when all steps are done."""
    stop = stop_after(after, getattr(target, name))
    folder = interrupted_run(tmp_path, target, name, stop, *RECIPE)
    run(tmp_path, "--resume", "auto", *RECIPE)
    assert outcome(folder) == outcome(warmed_up.folder) != outcome(finished.folder)
    assert rates_in(folder) == pytest.approx([0.1 * 4 / 5, 0.05])
    speeds = [record["timing"]["images_per_second"] for record in records_in(folder)]
    assert min(speeds) > 0, "steps before the interruption count"


def records_in(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def rates_in(folder):
    return [record["lr"] for record in records_in(folder)]


def test_a_warm_up_goes_on_to_more_epochs(tmp_path):
    """By the schedule of the longer run, still rising."""
    update, rates = Update.__call__, []

    def noting(self, loss):
        rates.append(float(self.rates[0]))
        update(self, loss)

    flags = ("--warmup", "1.75")
    folder = interrupted_run(tmp_path, Update, "__call__", stop_after(5, noting), *flags)
    whole = [0.05 * (1 + math.cos(math.pi * k / 2)) for k in range(2)]
    assert rates == pytest.approx([whole[0] * k / 7 for k in range(1, 5)] + [whole[1] * 5 / 7])
    rates.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Update, "__call__", noting)
        code, text = alone(folder / "last.pt", "--num_epoch", "3")
    assert code == 0, text
    assert ", 0.075 now, times the warm-up's factor" in text
    assert rates == pytest.approx([0.075 * k / 7 for k in (5, 6, 7)] + [0.075] + [0.025] * 4)
    assert rates_in(folder) == pytest.approx([0.1 * 4 / 7, 0.075, 0.025])


def test_a_resumed_run_draws_the_time_steps_of_the_unbroken_one(tmp_path):
    drawn = {}
    for name, which in (("whole", None), ("broken", 3)):
        flags = ("--T", "3", "--T_min", "1", "--num_epoch", "1")
        if which is not None:
            path = tmp_path / name
            interrupted_run(path, Update, "__call__", interruption_of(which), *flags)
            flags = (*flags, "--resume", "auto")
        drawn[name] = outcome(run(tmp_path / name, *flags).folder)
    assert drawn["whole"] == drawn["broken"]


def test_an_average_that_teaches_goes_on_exactly(tmp_path):
    """In the middle of an epoch, and where a run is killed between its last two files."""
    flags = ("--ema", "0.9", "--teacher", "ema")
    unbroken = run(tmp_path / "unbroken", *flags)
    runs, save = tmp_path / "broken", Recorder.save
    folder = interrupted_run(runs, Update, "__call__", stop_after(7, Update.__call__), *flags)
    assert load_checkpoint(folder / "last.pt")["batch"] == 2

    def failing(self, state, group, *, is_best=False):
        if state.epoch == 2:
            raise Interruption
        save(self, state, group, is_best=is_best)

    auto = ("--resume", "auto", *flags)
    assert interrupted_run(runs, Recorder, "save", failing, *auto) == folder
    assert run(runs, *auto).folder == folder
    assert outcome(folder) == outcome(unbroken.folder)
    averages = [digest(load_checkpoint(run / "ema.pt")) for run in (folder, unbroken.folder)]
    assert averages[0] == averages[1]


def test_a_named_checkpoint_alone_goes_on_exactly(finished, copied, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (copied / "last-1.pt").rename(copied / "last.pt")
    code, text = alone(copied / "last.pt")
    assert code == 0, text
    assert "warning" not in text
    assert outcome(copied) == outcome(finished.folder)


@pytest.mark.parametrize("name", ["last.pt", "last-1.pt"])
def test_a_run_goes_on_to_more_epochs(name, copied):
    """A finished one, and one that was interrupted in its last epoch."""
    epoch = load_checkpoint(copied / name)["epoch"]
    code, text = alone(copied / name, "--num_epoch", "4")
    assert code == 0, text
    rates = [0.05 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    words = (
        f"from epoch {epoch} on the learning rate is that of a run of 4 epochs, {rates[epoch]:.4g}"
    )
    assert f"--num_epoch 4 (was 2): {words} now" in text
    records = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    found = [record["lr"] for record in records]
    assert found == pytest.approx([0.1, rates[1] if epoch == 1 else 0.05, *rates[2:]])
    config = json.loads((copied / "config.json").read_text())
    assert config["identity"]["num_epoch"] == config["arguments"]["num_epoch"] == 4
    (note,) = config["extended"]
    assert (note["epoch"], note["num_epoch"]) == (epoch, 2) and note["command"]
    before = outcome(copied)
    for flags in (("--resume", "auto", "--num_epoch", "4"), ("--resume", str(copied / "last.pt"))):
        assert run(copied.parent, *flags[:2], *flags[2:] or ("--num_epoch", "4")).folder == copied
    assert outcome(copied) == before


def test_an_extension_that_is_interrupted_is_an_extension_still(copied):
    """Before its first checkpoint config.json alone knows of it, afterwards all files do."""
    same = shutil.copytree(copied, copied.parent / "same")
    for after in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Update, "__call__", stop_after(after))
            more = ("--num_epoch", "4") if after == 1 else ()
            assert "Interruption" in alone(copied / "last.pt", *more)[1]
    for folder, more in ((copied, ()), (same, ("--num_epoch", "4"))):
        assert alone(folder / "last.pt", *more)[0] == 0
    assert outcome(copied) == outcome(same)
    assert len(json.loads((copied / "config.json").read_text())["extended"]) == 1
