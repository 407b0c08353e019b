"""The choice between implementations."""

import pytest
import torch

from model import Execution, build_model, kernel
from tests.support.kernel_case import Case, backward_problems, forward_problems, norm_problems

CASES = [
    Case("soft detached", "identity"),
    Case("soft", "normed", channels_last=False, dtype=torch.float64),
    Case("hard", "identity", constant=True, dtype=torch.bfloat16),
]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_agree(case, backend):
    def run(function):
        return lambda *values, **named: function(*values, **named, backend=backend)

    for overwrite in (False, True):
        for compact in (False, True):
            options = {"overwrite": overwrite, "compact": compact}
            assert forward_problems(case, run(kernel.norm_lif_rate), **options) == []
        assert norm_problems(case, run(kernel.norm_rate), overwrite=overwrite) == []
    for fires in (False, True):
        options = {"from_batch": True, "wants_sum": True, "fires": fires}
        assert backward_problems(case, run(kernel.norm_lif_backward), **options) == []


def build(**execution):
    options = {"num_classes": 3, "T": 2, "width": 4, "branch_pool": None, "method": "rate"}
    return build_model("resnet18", execution=Execution(**execution), **options)


def test_environment_variable_decides_where_nothing_else_does(monkeypatch):
    monkeypatch.setenv("SPIKING_KERNEL", "reference")
    assert build().execution.backend == "reference"
    assert build(backend="compiled").execution.backend == "compiled"


def test_unknown_choices_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="unknown backend 'fast': choose one of auto, compiled"):
        build(backend="fast")
    for wrong in (torch.int8, torch.float8_e4m3fn, "bfloat16"):
        with pytest.raises(ValueError, match=r"must be None or one of torch\.bfloat16, .*, got "):
            build(convolution_backward=wrong)
    monkeypatch.setenv("SPIKING_KERNEL", "quick")
    with pytest.raises(ValueError, match="unknown SPIKING_KERNEL 'quick'"):
        build()


def test_networks_agree_on_logits_and_gradients():
    """The same network on every backend that needs no compiler, in float64."""
    x, results = torch.randn(2, 3, 8, 8, dtype=torch.float64), {}
    for backend in ("auto", "reference"):
        torch.manual_seed(0)
        net = build(backend=backend).double()
        (logits,) = net(x)
        logits.square().sum().backward()
        results[backend] = [logits, *(p.grad for p in net.parameters())]
    for own, expected in zip(results["auto"], results["reference"], strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-11)
