"""One finished run that the tests of this folder read, or take copies of."""

import shutil

import pytest

from experiment.train import recorder
from tests.support.finished_run import run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run's folder, in a log path of its own."""
    return shutil.copytree(finished.folder, tmp_path / "runs" / finished.folder.name)


@pytest.fixture
def undrawn(monkeypatch):
    """Half of the time of so small a run is its picture's."""
    monkeypatch.setattr(recorder, "draw_curves", lambda records, path: None)
