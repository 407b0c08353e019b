"""Where the Triton kernels run without a GPU."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from unittest.mock import patch

import pytest


@pytest.fixture(scope="module")
def interpreter():
    """A process in which Triton kernels run as plain Python."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        with patch.dict(os.environ, {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}):
            process.submit(os.getpid).result()  # starts it
        yield process
