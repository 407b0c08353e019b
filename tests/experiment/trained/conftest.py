"""One trained network that the tests of all commands read, and never write beside."""

import pytest

from experiment.trained.part.trained_network import load_trained
from tests.support.trained_run import CPU, make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Digits, 360 test images, T = 3, three branches, soft reset."""
    return make_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def trained(checkpoint):
    return load_trained(checkpoint, CPU)
