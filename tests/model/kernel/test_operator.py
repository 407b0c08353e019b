"""The custom operators: their schemas, fake implementations, and a block compiled whole."""

from functools import partial

import pytest
import torch

from benchmark.reference.kernel_case import Case, T
from benchmark.reference.norm_case import NormCase, norm_case_problems
from model.functional import Neuron
from model.kernel import Execution, Maps, Normalisation, Source, operator, reference
from model.rate_pair import Facts, RatePair
from model.resnet import BasicBlock
from tests.support.kernel_problems import fire_problems

SPIKING = torch.ops.spiking
CASES = [
    Case("soft detached", "bytes"),
    Case("soft detached", "normed"),
    Case("soft", "none", channels_last=False, constant=True),
    Case("hard", "constant", channels_last=False, dtype=torch.bfloat16),
]


@pytest.fixture
def checked(monkeypatch) -> list[str]:
    """Every operator is checked on the arguments it is called with; the names of those called."""
    called = []

    def check(name, *tensors, **constants):
        called.append(name)
        own = getattr(SPIKING, name)
        torch.library.opcheck(own, tensors, constants)
        return own(*tensors, **constants)

    for name in ("fire", "fire_backward", "norm_constants"):
        monkeypatch.setattr(operator, f"_{name}", partial(check, name))
    return called


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("spike_dtype", [None, torch.uint8])
@pytest.mark.parametrize("fires", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_firing_keeps_its_promises(case, fires, spike_dtype, sums, checked):
    neuron = case.neuron if fires else None
    wanted = {"spike_dtype": spike_dtype, "sums": sums}
    for reusable in (False, True):
        operator.fire(case.source(reusable), neuron, T, **wanted)
    assert checked == ["fire", "fire"]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("wants_source", [True, False])
@pytest.mark.parametrize("fires", [True, False])
def test_backward_keeps_its_promises(fires, wants_source, dtype, checked):
    grad, eligibility, y = torch.rand(3, 2, 5, 4, 4)
    norm = Normalisation(*torch.rand(3, 5), from_batch=True)
    eligibility = eligibility if fires else None
    operator.fire_backward(grad, eligibility, y, norm, wants_source, dtype=dtype)
    assert checked == ["fire_backward"]


NORM_CASES = [
    NormCase(),
    NormCase((3, 5), dtype=torch.bfloat16),
    NormCase(channels_last=False, dtype=torch.float64, state_dtype=torch.float64, mean=300.0),
    NormCase(dtype=torch.bfloat16, state_dtype=torch.bfloat16),
    NormCase(state_dtype=torch.float64),
]


@pytest.mark.parametrize("case", NORM_CASES, ids=str)
def test_batch_norm_per_channel(case, checked):
    torch.library.opcheck(SPIKING.batch_statistics, (case.maps(),))
    functions = operator.batch_statistics, operator.norm_constants
    assert norm_case_problems(case, *functions) == []
    assert checked == ["norm_constants"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_records_come_out_as_they_do_of_the_kernels(case):
    assert fire_problems(case, operator.fire) == []


STRANGE = {
    "pixels by columns": torch.randn(3, 2, 5, 4, 6).transpose(-1, -2),
    "gaps between time steps": torch.randn(6, 2, 5, 4, 6)[::2],
    "both": torch.randn(6, 2, 5, 4, 6)[::2].transpose(-1, -2),
}


@pytest.mark.parametrize("layout", STRANGE)
def test_a_current_whose_layout_no_kernel_can_write_is_left_alone(layout):
    current = STRANGE[layout].clone()
    source = Source(Maps(STRANGE[layout]), reusable=True)
    fired = operator.fire(source, Neuron(), 3)
    assert torch.equal(source.current.values, current)
    torch.testing.assert_close(fired, reference.fire(source, Neuron(), 3))


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "sparse"), [("auto", False), ("compiled", True)])
def test_block_compiles_into_one_graph(backend, sparse):
    """Forward and backward of a compiled block equal those of the block itself."""
    torch.manual_seed(0)
    layout = torch.channels_last if sparse else torch.contiguous_format
    block = BasicBlock(4, 32, 2, neuron=Neuron(threshold=0.5)).double()
    block.to(memory_format=layout)
    train = (torch.rand(T * 2, 4, 16, 16) < 0.5).contiguous(memory_format=layout)
    train = train.to(torch.uint8 if sparse else torch.double)
    facts = Facts(T, Execution(backend, sparse=sparse), max_count=1)
    results = []
    for run in (block, torch.compile(block, fullgraph=True)):
        block.zero_grad()
        rate = train.double().unflatten(0, (T, 2)).mean(0).contiguous(memory_format=layout)
        rate.requires_grad_()
        out = run(RatePair(train, rate, facts))
        (out.rate * torch.arange(64.0, dtype=torch.double).view(8, 8)).sum().backward()
        results.append([out.train, out.rate, rate.grad, *(p.grad for p in block.parameters())])
    torch.testing.assert_close(*results)
