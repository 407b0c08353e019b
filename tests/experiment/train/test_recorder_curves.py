"""The picture of a run's curves: drawn once, and never in the way of how the run ended."""

import logging
from contextlib import nullcontext

import pytest

from experiment.train import recorder as recording
from experiment.train.recorder import Recorder
from tests.support.micro_training import micro_state
from tests.support.recorded import record_of

LOGGER = logging.getLogger("recorder test")


def write(recorder, epochs=1):
    state, speed = micro_state(), {"images_per_second": 99.6}
    state.best = {"epoch": 0, "top1": 40.0}
    for epoch in range(epochs):
        recorder.write(record_of(epoch) | {"lr": 0.1, "timing": speed}, state)


@pytest.fixture
def drawn(monkeypatch):
    """The number of records of every picture that is drawn."""
    counts, draw = [], recording.draw_curves

    def draw_and_tell(records, path):
        counts.append(len(records))
        draw(records, path)

    monkeypatch.setattr(recording, "draw_curves", draw_and_tell)
    return counts


@pytest.mark.parametrize(
    ("error", "pictures"), [(None, [2]), (OSError("of the run"), [2]), (KeyboardInterrupt(), [])]
)
def test_curves_are_drawn_once_when_training_ends_or_fails(tmp_path, drawn, error, pictures):
    """A second signal, which is a KeyboardInterrupt, ends the program at once."""
    expected = nullcontext() if error is None else pytest.raises(type(error))
    with expected as seen, Recorder(tmp_path, LOGGER) as recorder:
        write(recorder, epochs=2)
        assert drawn == []
        if error is not None:
            raise error
    assert error is None or seen.value is error
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
        write(recorder)
        if error is not None:
            raise error
    assert ("no curves: of the picture" in caplog.text) is (error is None)


def test_a_run_with_nothing_left_to_do_draws_its_curves(tmp_path, drawn):
    with Recorder(tmp_path, LOGGER) as recorder:
        write(recorder)
    with Recorder(tmp_path, LOGGER):
        pass
    assert drawn == [1, 1]
