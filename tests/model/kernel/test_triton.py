"""The Triton kernels against the reference, in Triton's interpreter; and compiled for an H100.

Triton decides when it is imported whether it interprets, so the interpreted kernels live in a
process of their own. Neither needs a GPU.
"""

import re
from contextlib import contextmanager

import pytest
import torch

from benchmark.reference.kernel_case import RESETS, Case, cases
from experiment.flag.amp import PRECISIONS
from model import build_model
from model.functional import Neuron
from model.kernel import Execution
from model.kernel.record import Maps, Normalisation, Source
from model.layer import ConvNorm
from tests.support.triton_case import (
    OTHERS,
    WITHOUT,
    compile_for_gpu,
    compiled_where_launched,
    is_in_place,
    run_backward_case,
    run_forward_case,
)

pytest.importorskip("triton")

DTYPES = (torch.float32, torch.bfloat16)


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
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kernel", [*WITHOUT, *OTHERS])
def test_compiles_for_an_h100_without_one(kernel, dtype, in_training):
    ptx = compile_for_gpu(kernel, dtype, in_training=in_training)["ptx"]
    assert ".target sm_90" in ptx
    vectors = re.search(r"ld\.global\.v\d", ptx) is not None
    assert vectors or not in_training, "several values of a map in one load"


@pytest.mark.parametrize("amp", PRECISIONS)
@pytest.mark.parametrize("arch", ["resnet18", "preact_resnet18"])
def test_what_a_training_step_launches_compiles_for_an_h100(arch, amp):
    """With the dtypes, the missing arguments and the addresses that its kernels are given."""
    execution = Execution(**PRECISIONS[amp].execution)
    options = {"num_classes": 5, "T": 2, "width": 16, "branch_pool": None}
    net = build_model(arch, execution=execution, **options).to(memory_format=torch.channels_last)
    with compiled_where_launched() as launches:
        with torch.autocast("cpu", torch.bfloat16, enabled=amp == "bf16"):
            heads = net.train()(torch.randn(2, 3, 32, 32))
        sum(logits.sum() for logits in heads).backward()
    norms = sum(isinstance(module, ConvNorm) for module in net.modules())
    assert launches.pop("_fire_kernel") > norms / 2
    assert launches == dict.fromkeys(
        ("_moments_kernel", "_merge_kernel", "_sum_kernel", "_apply_kernel"), norms
    )


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
    from model.kernel import triton, triton_backward, triton_moments

    current, log = [None], []

    @contextmanager
    def device_of(tensor):
        current.append(tensor.data_ptr())
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    for module in (triton, triton_backward, triton_moments):
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
    log.clear()
    triton_moments.batch_statistics(grad)
    assert log == 2 * [grad.data_ptr()]


@pytest.mark.parametrize("kernel", WITHOUT)
def test_maps_of_all_time_steps_are_addressed_in_64_bits(kernel):
    """T*B*C*H*W may not fit 32."""
    lines = compile_for_gpu(kernel, "fp32")["ttir"].splitlines()
    additions = [line for line in lines if "tt.addptr" in line]
    assert len(additions) > 4
    assert all(re.search(r"\bi64\b|xi64>", line.rpartition(",")[2]) for line in additions)
