"""What a run writes: records, checkpoints, events; and that a folder has one writer."""

import json
import logging
import multiprocessing
import os
import sys
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from experiment.train import recorder as recording
from experiment.train.folder import final_metrics, locked
from experiment.train.log_line import describe_epoch
from experiment.train.loop import fit
from experiment.train.recorder import Recorder
from tests.support.micro_training import ONE_PROCESS, micro_recipe, micro_state, micro_training
from util.checkpoint import load_checkpoint
from util.file import history
from util.process.signals import StopRequest

LOGGER = logging.getLogger("recorder test")
BEST = {"epoch": 0, "top1": 40.0}


def record_of(epoch, top1):
    return {
        "epoch": epoch,
        "lr": 0.1,
        "train": {"total": 2.5, "hard": 2.0, "soft": 0.5, "reliable": 0.25, "head_top1": [1.0, 2]},
        "test": {"top1": top1, "head_top1": [3.0, top1], "firing_rate": {"stem": 0.125}},
        "timing": {"images_per_second": 99.6},
    }


def state_with_best():
    state = micro_state()
    state.best = BEST
    return state


def test_an_epoch_is_recorded_everywhere(tmp_path, caplog):
    state = state_with_best()
    with caplog.at_level(logging.INFO, "recorder test"), Recorder(tmp_path, LOGGER) as recorder:
        for epoch, top1 in enumerate((40.0, 30.0)):
            recorder.write(record_of(epoch, top1), state)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["test"]["top1"] for line in lines] == [40.0, 30.0]
    assert state.lines == 2
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert caplog.messages[1] == (
        "epoch 1; loss 2.5000 (hard 2.0000, soft 0.5000); reliable 25.0 %; train 2.00 %; "
        "test 30.00 %; best 40.00 % (epoch 0); 100 images/s"
    )
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in board.Scalars("test/top1")] == [40.0, 30.0]
    assert [event.step for event in board.Scalars("test/firing_rate/stem")] == [0, 1]
    assert [event.value for event in board.Scalars("train/head_top1/2")] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"train": {"head_top1": [2.0]}}, "epoch 1; loss 2.5000; train 2.00 %; test"),
        ({"train": {"hard": 2.5}}, "epoch 1; loss 2.5000; train 2.00 %; test"),
        (  # no head was right in the whole epoch
            {"train": {"total": 2.0, "soft": 0.0, "reliable": 0.0}},
            "epoch 1; loss 2.0000 (hard 2.0000, soft 0.0000); reliable 0.0 %; train 2.00 %; test",
        ),
        ({"validation": {"top1": 31.0}}, "; validation 31.00 %; test 30.00 %;"),
        ({"ema": {"test": {"top1": 35.0}}}, "; test 30.00 %; ema 35.00 %; best"),
    ],
)
def test_a_line_says_what_there_is(changes, line):
    """Nothing of a teacher without branches, or with beta 0."""
    record = record_of(1, 30.0)
    record |= changes | {"train": record["train"] | changes.get("train", {})}
    assert line in describe_epoch(record, BEST)


@pytest.mark.parametrize("best", [BEST, None])
def test_a_line_without_an_evaluation_says_nothing_of_the_best(best):
    record = record_of(1, 30.0)
    del record["test"]
    assert describe_epoch(record, best).endswith("reliable 25.0 %; train 2.00 %; 100 images/s")


def test_a_symptom_is_a_warning_after_the_line_of_its_first_epoch(tmp_path, caplog):
    state, silent = state_with_best(), {"firing_rate": {"stem": 0.125, "stages.0": 0.0}}
    state.batch = 100  # steps of each epoch
    with caplog.at_level(logging.INFO, "recorder test"), Recorder(tmp_path, LOGGER) as recorder:
        for epoch in range(3):
            record = record_of(epoch, 40.0)
            record["test"] |= silent if epoch else {}
            recorder.write(record, state)
    kinds = [(record.levelname, record.message.partition(";")[0]) for record in caplog.records]
    lines = [("INFO", f"epoch {epoch}") for epoch in range(3)]
    said = "no spikes from stages.0: try a lower --thresh or a smaller --lr"
    assert kinds == [*lines[:2], ("WARNING", said), lines[2]]


def test_a_folder_that_vanishes_under_tensorboards_thread_is_said_once(tmp_path, monkeypatch):
    """By the error that is raised, without the traceback of the thread that wrote."""

    def fail(writer, data):
        assert threading.current_thread() is not threading.main_thread()
        raise FileNotFoundError(2, "No such file or directory", "events")

    monkeypatch.setattr(RecordWriter, "write", fail)
    printed = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    state, hook = state_with_best(), threading.excepthook
    with pytest.raises(FileNotFoundError), Recorder(tmp_path, LOGGER) as recorder:
        for epoch in range(20):  # the thread fails when it gets to it
            recorder.write(record_of(epoch, 40.0), state)
    assert printed == [] and threading.excepthook is hook


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run", "tensorboard is not installed"),
        (os.fsdecode(b"caf\xe9"), "which is no UTF-8; without them"),
    ],
)
def test_without_events_a_run_says_so_once_and_goes_on(name, words, tmp_path, monkeypatch, caplog):
    """Where tensorboard is missing, or cannot name the folder."""
    if name == "run":
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        for module in [x for x in sys.modules if x.startswith("torch.utils.tensorboard")]:
            monkeypatch.delitem(sys.modules, module)
    folder, state = tmp_path / name, state_with_best()
    folder.mkdir()
    with Recorder(folder, LOGGER) as recorder:
        for epoch in range(3):
            recorder.write(record_of(epoch, 40.0), state)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert words in warning and "metrics.jsonl has" in warning
    assert {path.name for path in folder.iterdir()} == {"metrics.jsonl", "curves.png"}


def test_a_tensorboard_that_does_not_work_is_found_before_an_epoch(tmp_path, monkeypatch):
    """One of its own packages is missing, say; that is no reason to go on without it in silence."""

    def fail(name):
        raise ModuleNotFoundError("No module named 'absl'", name="absl")

    monkeypatch.setattr(recording, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="absl"), Recorder(tmp_path, LOGGER):
        pytest.fail("training began")


def test_records_that_vanish_are_noticed_at_the_end(tmp_path):
    """By the recorder, and when it has ended by what reads the result."""
    complaint, state = r"metrics\.jsonl holds 0 of 1 records: it was deleted", state_with_best()
    with pytest.raises(ValueError, match=complaint), Recorder(tmp_path, LOGGER) as recorder:
        recorder.write(record_of(0, 40.0), state)
        (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=complaint):
        final_metrics(tmp_path, state)


def test_a_repeated_epoch_replaces_its_events(tmp_path):
    state = state_with_best()
    for values in ((10.0, 20.0, 30.0), (None, 21.0)):  # killed, resumed in epoch 1
        with Recorder(tmp_path, LOGGER) as recorder:
            for epoch, top1 in enumerate(values):
                if top1 is not None:
                    recorder.write(record_of(epoch, top1), state)
        for path in tmp_path.glob("events.out.*"):  # named after the second: too coarse for a test
            path.rename(tmp_path / f"tfevents.{state.lines}")
    board = EventAccumulator(str(tmp_path), purge_orphaned_data=True).Reload()
    values = {event.step: event.value for event in board.Scalars("test/top1")}
    assert values == {0: 10.0, 1: 21.0}


def test_newest_and_best_are_kept(tmp_path):
    state, recorder = micro_state(), Recorder(tmp_path, LOGGER, keep_checkpoints=2)
    for epoch in range(4):
        state.epoch = epoch
        recorder.save(state, ONE_PROCESS, is_best=epoch == 1)
    epochs = {path.name: load_checkpoint(path)["epoch"] for path in tmp_path.glob("*.pt")}
    assert epochs == {"last.pt": 3, "last-1.pt": 2, "best.pt": 1}


class Watched(Recorder):
    """Remembers of each save whether it was of the best, and whether both names are one file."""

    def save(self, state, group, *, is_best=False):
        super().save(state, group, is_best=is_best)
        names = (self.folder / "best.pt", self.folder / "last.pt")
        self.saves = [*getattr(self, "saves", []), (is_best, os.path.samefile(*names))]


@pytest.mark.parametrize("linkable", [True, False])
def test_the_best_epoch_is_written_once(tmp_path, monkeypatch, linkable):
    def refuse(*args):
        raise PermissionError

    archives, seal = [], history.sealed_archive
    monkeypatch.setattr(history, "sealed_archive", lambda x: archives.append(1) or seal(x))
    if not linkable:
        monkeypatch.setattr(os, "link", refuse)
    state, recipe = micro_state(), micro_recipe(num_epoch=3)
    with Watched(tmp_path, LOGGER) as recorder:
        fit(state, micro_training(recipe), recorder=recorder, stop=StopRequest())
    assert len(recorder.saves) == len(archives) == 3
    assert recorder.saves[0][0] and all(one is (best and linkable) for best, one in recorder.saves)
    best = load_checkpoint(tmp_path / "best.pt")
    assert best["epoch"] == state.best["epoch"] + 1
    assert best["best"] == state.best


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = micro_state()
    with Recorder(None, LOGGER) as recorder:
        recorder.write(record_of(0, 1.0), state)
        recorder.save(state, ONE_PROCESS, is_best=True)
    assert list(tmp_path.iterdir()) == []
    assert state.lines == 1  # all processes count alike


def enter(folder, outcome):
    try:
        with locked(folder):
            outcome.put("entered")
    except ValueError as error:
        outcome.put(str(error))


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")

    def in_another_process():
        outcome = context.Queue()
        process = context.Process(target=enter, args=(tmp_path, outcome))
        process.start()
        answer = outcome.get(timeout=60)
        process.join()
        return answer

    with locked(tmp_path):
        assert f"another process is training in {tmp_path}" in in_another_process()
    assert in_another_process() == "entered"
