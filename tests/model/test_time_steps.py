"""T belongs to a batch: a network made for another number of time steps computes the same.

Exactly, for every architecture and method: the network's own T is only what a call without T takes.
"""

from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import METHODS, MODELS, build_model
from model.inference.fold import fold
from tests.support.trained_run import stir

T, OTHER_T, B, K, SIDE = 5, 2, 2, 3, 19
EVALUATIONS = ("forward", "time_logits", "head_logits", "all_logits")


def network(arch: str, method: str, own_T: int):
    """The same weights every time."""
    torch.manual_seed(0)
    options = {"num_classes": K, "T": own_T, "width": 4, "thresh": 0.3}
    return stir(build_model(arch, method=method, branch_pool=None, **options)).double()


def batch(frames: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (T, B, 3, SIDE, SIDE) if frames else (B, 3, SIDE, SIDE)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def trained(net, x: Tensor, **steps: int) -> dict[str, Tensor]:
    """Logits and gradients of a training step, and the buffers after it."""
    net.train().zero_grad()
    before = x.clone()
    heads = net(x, **steps)
    assert x.equal(before), "the input is left alone"
    sum(F.cross_entropy(logits, torch.arange(B)) for logits in heads).backward()
    gradients = {f"{name}'s gradient": p.grad for name, p in net.named_parameters()}
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    return {f"head {n}": z.detach() for n, z in enumerate(heads)} | gradients | buffers


@torch.no_grad()
def evaluated(net, x: Tensor, **steps: int) -> dict[str, Tensor]:
    """What every way to evaluate says."""
    net.eval()
    found = {name: getattr(net, name)(x, **steps) for name in EVALUATIONS}
    branches, time_logits = found.pop("all_logits")
    for kind, heads in (("head", found.pop("head_logits")), ("branch", branches)):
        found |= {f"{kind} {n} in evaluation": logits for n, logits in enumerate(heads)}
    return found | {"all_logits": time_logits, "folded": fold(net)(x, **steps)}


assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


CASES = list(product(MODELS, METHODS, (False, True)))
IDS = [f"{arch}-{method}-{'frames' if frames else 'image'}" for arch, method, frames in CASES]


@pytest.mark.parametrize(("arch", "method", "frames"), CASES, ids=IDS)
def test_a_network_made_for_another_T_computes_the_same(arch, method, frames) -> None:
    x = batch(frames)
    net, expected = network(arch, method, OTHER_T), network(arch, method, T)
    assert_equal(net.state_dict(), expected.state_dict())
    of_training = trained(net, x, T=T)
    assert_equal(of_training, trained(expected, x))
    of_evaluation = evaluated(net, x, T=T)
    assert_equal(of_evaluation, evaluated(expected, x))
    heads = [logits.shape for name, logits in of_training.items() if name.startswith("head")]
    assert heads == [(B, K)] * (len(net.stages) if method == "esd" else 1)
    assert of_evaluation["time_logits"].shape == (T, B, K)
    assert of_evaluation["time_logits"].std(0).max() > 0, "time matters"
    assert net.T == OTHER_T


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arch", ["resnet19", "preact_resnet18"])
def test_batches_of_other_T_leave_nothing_behind(arch: str, method: str) -> None:
    x, frames = batch(False), batch(True)
    fresh, used = network(arch, method, OTHER_T), network(arch, method, OTHER_T)
    state = {name: value.clone() for name, value in used.state_dict().items()}
    for images, steps in ((x, T), (frames, T), (frames[:1], 1), (x, 1)):
        trained(used, images, T=steps)
        evaluated(used, images, T=steps)
    used.load_state_dict(state)
    for images in (x, frames[:OTHER_T]):
        assert_equal(trained(used, images), trained(fresh, images))
        assert_equal(evaluated(used, images), evaluated(fresh, images))
    assert used.time_logits(x).shape == (OTHER_T, B, K)
