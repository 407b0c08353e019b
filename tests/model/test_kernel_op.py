"""The custom operators: their schemas, fake implementations, and a block compiled whole."""

import pytest
import torch

from model.functional import Neuron
from model.kernel import Execution
from model.rate_pair import RatePair
from model.resnet import BasicBlock
from tests.support.kernel_case import Case, T

SPIKING = torch.ops.spiking
CASES = [
    Case("soft detached", "bytes"),
    Case("soft detached", "normed"),
    Case("soft", "none", channels_last=False, constant=True),
    Case("hard", "constant", channels_last=False, dtype=torch.bfloat16),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operators_keep_their_promises(case):
    sources = list(case.sources().values())
    for compact in (False, True):
        torch.library.opcheck(SPIKING.fire, (*sources, T, *case.neuron, compact))
    torch.library.opcheck(SPIKING.norm, (*sources,))
    torch.library.opcheck(SPIKING.spikes, (sources[0], T, *case.neuron[:3]))
    if not case.constant:
        torch.library.opcheck(SPIKING.fire_, (*sources, *case.neuron))
        torch.library.opcheck(SPIKING.norm_, (*sources,))


@pytest.mark.parametrize("fires", [True, False])
def test_backward_operator_keeps_its_promises(fires):
    grad, eligibility, y = torch.rand(3, 2, 5, 4, 4)
    gamma, mean, inverse_std = torch.rand(3, 5)
    arguments = (grad, eligibility if fires else None, y, gamma, mean, inverse_std, True, True)
    torch.library.opcheck(SPIKING.norm_lif_backward, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("backend", ["auto", "compiled"])
def test_block_compiles_into_one_graph(backend, sparse):
    """Forward and backward of a compiled block equal those of the block itself."""
    torch.manual_seed(0)
    layout = torch.channels_last if sparse else torch.contiguous_format
    block = BasicBlock(4, 6, 2, steps=T, neuron=Neuron(threshold=0.5)).double()
    block.to(memory_format=layout)
    train = (torch.rand(T * 2, 4, 8, 8) < 0.5).contiguous(memory_format=layout)
    train = train.to(torch.uint8 if sparse else torch.double)
    results = []
    for run in (block, torch.compile(block, fullgraph=True)):
        block.zero_grad()
        rate = train.double().unflatten(0, (T, 2)).mean(0).contiguous(memory_format=layout)
        rate.requires_grad_()
        out = run(RatePair(train, rate, True, Execution(backend, sparse=sparse)))
        (out.rate * torch.arange(16.0, dtype=torch.double).view(4, 4)).sum().backward()
        results.append([out.train, out.rate, rate.grad, *(p.grad for p in block.parameters())])
    for own, expected in zip(*results, strict=True):
        torch.testing.assert_close(own, expected)
