"""The Triton kernels against the reference, in Triton's interpreter; and compiled for an H100.

Triton decides when it is imported whether it interprets, so the interpreted kernels live in a
process of their own. Neither needs a GPU.
"""

import os
import re
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from unittest.mock import patch

import pytest
import torch

from benchmark.reference.kernel_case import RESETS, Case, cases
from model.functional import Neuron
from model.kernel.record import Maps, Normalisation, Source
from tests.support.triton_case import (
    WITHOUT,
    compile_for_gpu,
    is_in_place,
    run_backward_case,
    run_forward_case,
)

pytest.importorskip("triton")

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(scope="module")
def interpreter():
    """A process in which Triton kernels run as plain Python."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        with patch.dict(os.environ, {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}):
            process.submit(os.getpid).result()  # starts it
        yield process


@pytest.mark.parametrize("case", list(cases(DTYPES)), ids=str)
def test_forward(case, interpreter):
    assert interpreter.submit(run_forward_case, case).result() == []


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_train_takes_the_memory_of_a_current_over_time(channels_last, interpreter):
    for constant in (False, True):
        case = Case("soft", channels_last=channels_last, constant=constant)
        assert interpreter.submit(is_in_place, case).result() is not constant


@pytest.mark.parametrize("channels_last", [True, False])
def test_backward(channels_last, interpreter):
    case = Case("soft", channels_last=channels_last)
    assert interpreter.submit(run_backward_case, case).result() == []


@pytest.mark.parametrize("in_training", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kernel", [*WITHOUT, "sum", "apply"])
def test_compiles_for_an_h100_without_one(kernel, dtype, in_training):
    ptx = compile_for_gpu(kernel, dtype, in_training=in_training)["ptx"]
    assert ".target sm_90" in ptx
    vectors = re.search(r"ld\.global\.v\d", ptx) is not None
    assert vectors or not in_training, "several values of a map in one load"


@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("reset", RESETS)
def test_every_reset_compiles(reset, dtype):
    """What a loop carries has one type, which the interpreter does not check."""
    assert ".target sm_90" in compile_for_gpu("fire", dtype, reset=reset)["ptx"]


@pytest.mark.parametrize("kernel", WITHOUT)
def test_code_does_not_grow_with_the_time_steps_nor_read_ahead_of_them(kernel):
    """Reading ahead would be wrong where spikes replace the current."""
    few, many = (compile_for_gpu(kernel, "fp32", T=T)["ptx"] for T in (4, 32))
    assert many.count("\n") < 1.1 * few.count("\n")
    assert "cp.async" not in many
    assert many.count("ld.global") == few.count("ld.global")


class Launch:
    """Stands in for a kernel: notes whose GPU is the current one when it is launched."""

    def __init__(self, current, log):
        self.current, self.log = current, log

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.log.append(self.current[-1])


def test_kernels_are_launched_on_the_gpu_of_their_tensors(monkeypatch):
    """Triton launches on the current one."""
    from model.kernel import triton, triton_backward

    current, log = [None], []

    @contextmanager
    def device_of(tensor):
        current.append(tensor.data_ptr())
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    for module in (triton, triton_backward):
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            monkeypatch.setattr(module, name, Launch(current, log))
    x, values = torch.randn(3, 2, 5, 4, 4), torch.randn(5)
    for neuron in (None, Neuron()):
        triton.fire(Source(Maps(x, values, values)), neuron, 3)
        assert log == [x.data_ptr()]
        log.clear()
    grad, norm = torch.randn(2, 5, 4, 4), Normalisation(values, values, values, from_batch=True)
    triton_backward.fire_backward(grad, None, x[0], norm, True)
    assert log == 2 * [grad.data_ptr()]


@pytest.mark.parametrize("kernel", WITHOUT)
def test_maps_of_all_time_steps_are_addressed_in_64_bits(kernel):
    """T*B*C*H*W may not fit 32."""
    lines = compile_for_gpu(kernel, "fp32")["ttir"].splitlines()
    additions = [line for line in lines if "tt.addptr" in line]
    assert len(additions) > 4
    assert all(re.search(r"\bi64\b|xi64>", line.rpartition(",")[2]) for line in additions)
