"""What tests of compiled operators need."""

import pytest

from model.kernel.sparse import library


@pytest.fixture(scope="module")
def operators():
    """Compiled and loaded: what falls back on plain PyTorch would pass many tests without them."""
    assert library.is_available()
