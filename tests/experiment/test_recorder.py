"""What a run writes: records, checkpoints, events; and that a folder has one writer."""

import contextlib
import json
import logging
import multiprocessing
import os
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from experiment.recorder import Recorder, describe, flattened, locked
from tests.support.micro_training import ONE_PROCESS, micro_state
from util.checkpoint import load_checkpoint

LOGGER = logging.getLogger("recorder test")


def record_of(epoch, top1):
    return {
        "epoch": epoch,
        "lr": 0.1,
        "train": {"total": 2.5, "hard": 2.0, "soft": 0.5, "reliable": 0.25, "head_top1": [1.0, 2]},
        "test": {"top1": top1, "head_top1": [3.0, top1], "firing_rate": {"stem": 0.125}},
        "timing": {"images_per_second": 99.6},
    }


def test_an_epoch_is_recorded_everywhere(tmp_path, caplog):
    state, recorder = micro_state(), Recorder(tmp_path, LOGGER)
    state.best = {"epoch": 0, "top1": 40.0}
    with caplog.at_level(logging.INFO, "recorder test"):
        for epoch, top1 in enumerate((40.0, 30.0)):
            recorder.write(record_of(epoch, top1), state)
    recorder.close()
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


def test_a_folder_that_vanishes_under_tensorboards_thread_is_said_once(tmp_path, monkeypatch):
    """By the error that is raised, without the traceback of the thread that wrote."""

    def fail(writer, data):
        assert threading.current_thread() is not threading.main_thread()
        raise FileNotFoundError(2, "No such file or directory", "events")

    monkeypatch.setattr(RecordWriter, "write", fail)
    printed = []
    monkeypatch.setattr(threading, "excepthook", printed.append)
    state, recorder = micro_state(), Recorder(tmp_path, LOGGER)
    state.best = {"epoch": 0, "top1": 40.0}
    hook = threading.excepthook
    with pytest.raises(FileNotFoundError), contextlib.closing(recorder):
        for epoch in range(20):  # the thread fails when it gets to it
            recorder.write(record_of(epoch, 40.0), state)
    assert printed == [] and threading.excepthook is hook


def test_a_validation_set_is_part_of_the_line():
    state = micro_state()
    state.best = {"epoch": 0, "top1": 1.0}
    record = {**record_of(0, 30.0), "validation": {"top1": 31.0}}
    assert "; validation 31.00 %; test 30.00 %;" in describe(record, state)


def test_a_repeated_epoch_replaces_its_events(tmp_path):
    state = micro_state()
    state.best = {"epoch": 0, "top1": 40.0}
    for values in ((10.0, 20.0, 30.0), (None, 21.0)):  # killed, resumed in epoch 1
        recorder = Recorder(tmp_path, LOGGER)
        for epoch, top1 in enumerate(values):
            if top1 is not None:
                recorder.write(record_of(epoch, top1), state)
        recorder.close()
        os.sync()
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


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state, recorder = micro_state(), Recorder(None, LOGGER)
    recorder.write(record_of(0, 1.0), state)
    recorder.save(state, ONE_PROCESS, is_best=True)
    recorder.close()
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
