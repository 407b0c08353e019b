"""A static image passes the stem once, in BPTT and in evaluation, and nothing else changes."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import MODELS, build_model
from model.still import Still
from tests.support.trained_run import stir

T, B, K, SIDE = 3, 2, 5, 19
STEMS = [
    (arch, stem)
    for arch, row in MODELS.items()
    for stem in (("published", "small") if row.large_stem else ("published",))
]
BPTT = ("bptt", "bptt_checkpointed")


def network(arch: str, stem: str, method: str):
    torch.manual_seed(0)
    options = {"num_classes": K, "T": T, "width": 3, "branch_pool": None}
    return stir(build_model(arch, stem=stem, method=method, **options)).double()


def image() -> tuple[Tensor, Tensor]:
    """A batch of images, and the same as frames."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(B, 3, SIDE, SIDE, dtype=torch.float64, generator=generator)
    return x, x.expand(T, *x.shape)


def stem_calls(net) -> list[int]:
    """A list that fills with the number of maps of every call of the stem's convolution."""
    calls = []
    net.stem.conv.register_forward_hook(lambda module, inputs, out: calls.append(len(out)))
    return calls


@pytest.mark.parametrize(("method", "arch", "stem"), [(m, *s) for m, s in product(BPTT, STEMS)])
def test_training_equals_that_on_the_repeated_image(method, arch, stem) -> None:
    results = []
    for x in image():
        net = network(arch, stem, method)
        calls = stem_calls(net)
        x.requires_grad_(x.dim() == 4)
        (logits,) = net(x)
        F.cross_entropy(logits, torch.arange(B)).backward()
        runs = 2 if method == "bptt_checkpointed" else 1
        assert calls == runs * [B if x.dim() == 4 else T * B]
        results.append({
            "logits": logits, **dict(net.named_buffers()),
            **{f"{name}'s gradient": p.grad for name, p in net.named_parameters()},
        })  # fmt: skip
    still, repeated = results
    assert still["stem.conv.weight's gradient"].norm() > 0
    assert still["stem.norm.num_batches_tracked"] == 1
    for name, value in repeated.items():
        torch.testing.assert_close(still[name], value, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize(("arch", "stem"), STEMS)
@torch.no_grad()
def test_evaluation_equals_that_of_the_repeated_image(arch, stem) -> None:
    net, (x, frames) = network(arch, stem, "esd").eval(), image()
    calls = stem_calls(net)
    for run in (net, net.time_logits, net.all_logits, net.head_logits):
        calls.clear()
        logits = run(x)
        assert calls == [B]
        torch.testing.assert_close(logits, run(frames), rtol=1e-12, atol=1e-12)
    assert net.time_logits(x).shape == (T, B, K)


def test_repeated_maps_keep_their_order_and_layout() -> None:
    maps = torch.randn(B, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    repeated = Still(maps, T).repeated()
    assert repeated.equal(maps.repeat(T, 1, 1, 1))
    assert repeated.is_contiguous(memory_format=torch.channels_last)
