"""Batch norm per channel in Triton's interpreter; that it compiles is in `test_triton`."""

import re
from itertools import product

import pytest
import torch

from benchmark.reference.norm_case import NormCase
from tests.support.triton_case import compile_for_gpu, run_norm_case

pytest.importorskip("triton")

HALF, BRAIN, SINGLE, DOUBLE = torch.float16, torch.bfloat16, torch.float32, torch.float64
DTYPES = ((SINGLE, SINGLE), (DOUBLE, DOUBLE), (BRAIN, SINGLE), (HALF, SINGLE), (BRAIN, BRAIN))
CASES = [
    NormCase(channels_last=last, dtype=dtype, state_dtype=state, mean=mean)
    for last, (dtype, state), mean in product((True, False), DTYPES, (1.0, 300.0))
]
CASES += [
    NormCase((1, 5, 1, 2)),  # most rows of the only tile are beyond the maps
    NormCase((3, 5, 43, 1)),  # the last part has one row
    NormCase((3, 5)),
    NormCase((1, 1, 1, 2)),
    NormCase((8, 4, 16, 16), channels_last=False),  # nothing is left out
    NormCase((2, 70, 3, 5), dtype=SINGLE, state_dtype=DOUBLE),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_statistics_constants_and_moved_buffers(case, interpreter):
    assert interpreter.submit(run_norm_case, case).result() == []


def test_maps_are_addressed_in_64_bits():
    """T*B*C*H*W may not fit 32; what is per channel or part does."""
    lines = compile_for_gpu("moments", "fp32")["ttir"].splitlines()
    of_tiles = [line for line in lines if re.search(r"tt.addptr.*: tensor<\d+x\d+x!", line)]
    assert of_tiles
    assert all("xi64>" in line for line in of_tiles)


@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
def test_code_is_a_loop(dtype):
    """One load of a tile, however many tiles a program reads."""
    assert compile_for_gpu("moments", dtype)["ttir"].count("scf.for") == 1
