"""What a run writes: records, checkpoints, events; and that a folder has one writer."""

import json
import logging
import multiprocessing
import os
import sys
import threading
from contextlib import nullcontext

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from experiment import recorder as recording
from experiment.engine import fit
from experiment.recorder import Recorder, describe, flattened, locked
from tests.support.micro_training import ONE_PROCESS, micro_data, micro_recipe, micro_state
from util import checkpoint_history
from util.checkpoint import load_checkpoint
from util.signals import StopRequest

LOGGER = logging.getLogger("recorder test")


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
    state.best = {"epoch": 0, "top1": 40.0}
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


@pytest.mark.parametrize("train", [{"head_top1": [2.0]}, {"hard": 2.5}])
def test_without_branches_or_with_beta_0_the_line_says_nothing_of_a_teacher(train):
    record = record_of(1, 30.0)
    record["train"] |= train
    assert describe(record, state_with_best()).startswith("epoch 1; loss 2.5000; train 2.00 %; ")


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


def test_without_tensorboard_a_run_says_so_once_and_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    state = state_with_best()
    with Recorder(tmp_path, LOGGER) as recorder:
        for epoch in range(3):
            recorder.write(record_of(epoch, 40.0), state)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "tensorboard is not installed" in warning and "metrics.jsonl has" in warning
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "curves.png"}


def test_a_folder_that_tensorboard_cannot_name_has_no_events(tmp_path, caplog):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    with Recorder(folder, LOGGER) as recorder:
        recorder.write(record_of(0, 40.0), state_with_best())
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "which is no UTF-8; without them, metrics.jsonl has" in warning
    assert {path.name for path in folder.iterdir()} == {"metrics.jsonl", "curves.png"}


@pytest.fixture
def drawn(monkeypatch):
    """The number of records of every picture that is drawn."""
    drawn, draw = [], recording.draw_curves

    def draw_and_tell(records, path):
        drawn.append(len(records))
        draw(records, path)

    monkeypatch.setattr(recording, "draw_curves", draw_and_tell)
    return drawn


@pytest.mark.parametrize(
    ("error", "pictures"), [(None, [2]), (OSError("of the run"), [2]), (KeyboardInterrupt(), [])]
)
def test_curves_are_drawn_once_when_training_ends_or_fails(tmp_path, drawn, error, pictures):
    """A second signal, which is a KeyboardInterrupt, ends the program at once."""
    state, seen = state_with_best(), None
    try:
        with Recorder(tmp_path, LOGGER) as recorder:
            for epoch in range(2):
                recorder.write(record_of(epoch, 40.0), state)
            assert drawn == []
            if error is not None:
                raise error
    except BaseException as caught:
        seen = caught
    assert seen is error
    assert drawn == pictures
    assert (tmp_path / "curves.png").exists() is (pictures != [])


@pytest.mark.parametrize("failure", [OSError, ImportError, ValueError])
@pytest.mark.parametrize("error", [ArithmeticError("of the run"), None])
def test_curves_that_cannot_be_drawn_never_hide_how_a_run_ended(
    error, failure, tmp_path, monkeypatch, caplog
):
    def fail(records, path):
        raise failure("of the picture")

    monkeypatch.setattr(recording, "draw_curves", fail)
    expected = nullcontext() if error is None else pytest.raises(ArithmeticError, match="the run")
    with expected, Recorder(tmp_path, LOGGER) as recorder:
        recorder.write(record_of(0, 40.0), state_with_best())
        if error is not None:
            raise error
    assert ("no curves: of the picture" in caplog.text) is (error is None)


def test_a_tensorboard_that_does_not_work_is_found_before_an_epoch(tmp_path, monkeypatch):
    """One of its own packages is missing, say; that is no reason to go on without it in silence."""

    def fail(name):
        raise ModuleNotFoundError("No module named 'absl'", name="absl")

    monkeypatch.setattr(recording, "import_module", fail)
    with pytest.raises(ModuleNotFoundError, match="absl"), Recorder(tmp_path, LOGGER):
        pytest.fail("training began")


def test_a_run_with_nothing_left_to_do_draws_its_curves(tmp_path, drawn):
    with Recorder(tmp_path, LOGGER) as recorder:
        recorder.write(record_of(0, 40.0), state_with_best())
    (tmp_path / "curves.png").unlink()
    with Recorder(tmp_path, LOGGER):
        pass
    assert drawn == [1, 1] and (tmp_path / "curves.png").exists()


def test_records_that_vanish_are_noticed_at_the_end(tmp_path):
    complaint = r"metrics\.jsonl holds 0 records after 1 epochs"
    with pytest.raises(ValueError, match=complaint), Recorder(tmp_path, LOGGER) as recorder:
        recorder.write(record_of(0, 40.0), state_with_best())
        (tmp_path / "metrics.jsonl").unlink()


def test_a_validation_set_is_part_of_the_line():
    state = micro_state()
    state.best = {"epoch": 0, "top1": 1.0}
    record = {**record_of(0, 30.0), "validation": {"top1": 31.0}}
    assert "; validation 31.00 %; test 30.00 %;" in describe(record, state)


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
    archives, seal = [], checkpoint_history.sealed_archive
    monkeypatch.setattr(
        checkpoint_history, "sealed_archive", lambda state: archives.append(1) or seal(state)
    )
    if not linkable:

        def refuse(*args):
            raise PermissionError

        monkeypatch.setattr(os, "link", refuse)
    state, recipe = micro_state(), micro_recipe(num_epoch=3)
    with Watched(tmp_path, LOGGER) as recorder:
        fit(state, micro_data(), recipe, group=ONE_PROCESS, recorder=recorder, stop=StopRequest())
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


def test_numbers_are_flattened():
    record = {"a": {"b": 1, "c": [2, {"d": 3}]}, "e": 4}
    assert dict(flattened(record)) == {"a/b": 1, "a/c/1": 2, "a/c/2/d": 3, "e": 4}


def enter(folder, outcome):
    try:
        with locked(folder):
            outcome.put("entered")
    except ValueError as error:
        outcome.put(str(error))


def in_another_process(folder):
    context = multiprocessing.get_context("fork")
    outcome = context.Queue()
    process = context.Process(target=enter, args=(folder, outcome))
    process.start()
    answer = outcome.get(timeout=60)
    process.join()
    return answer


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    with locked(tmp_path):
        assert f"another process is training in {tmp_path}" in in_another_process(tmp_path)
    assert in_another_process(tmp_path) == "entered"


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "gone"):
        pass
