"""Tests that need a C++ compiler."""

import shlex
import shutil

import pytest
from torch.utils.cpp_extension import get_cxx_compiler

needs_compiler = pytest.mark.skipif(
    shutil.which(shlex.split(get_cxx_compiler())[0]) is None, reason="there is no C++ compiler here"
)
