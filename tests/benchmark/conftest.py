"""What all tests of benchmarks need."""

import pytest
import torch


@pytest.fixture(autouse=True)
def threads():
    """A command sets the number of threads of its process, which is the test's here."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
