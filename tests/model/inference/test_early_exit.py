"""Early exits: the answer at the first step that is sure, and no step after it.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

import pytest
import torch

from model import build_model
from model.inference.early_exit import answer
from model.inference.fold import fold
from tests.support.trained_run import stir

T, B = 4, 9


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(3)
    built = build_model("resnet18", num_classes=5, in_channels=2, T=T, width=4, branch_pool=None)
    return fold(stir(built).double().eval())


def images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(*shape, 2, 9, 9, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("frames", [False, True])
@torch.no_grad()
def test_each_sample_stops_at_its_first_sure_step(net, frames):
    x = images(T, B) if frames else images(B)
    anytime = net(x).cumsum(0) / torch.arange(1, T + 1).view(-1, 1, 1)
    sure = anytime.softmax(-1).amax(-1)  # (T, B)
    levels = [-1.0, *sure.quantile(torch.linspace(0, 1, 7).double()).tolist(), 1.0]
    seen = set()
    for level in levels:
        logits, steps = answer(net, x, confidence=level)
        for i in range(B):
            expected = next((t for t in range(T) if sure[t, i] > level), T - 1)
            assert steps[i] == expected + 1
            torch.testing.assert_close(logits[i], anytime[expected, i], rtol=1e-11, atol=1e-11)
            seen.add(expected)
    assert len(seen) >= 3


@torch.no_grad()
def test_no_step_is_computed_for_who_is_done(net, monkeypatch):
    """Nor is the stem of an image computed again."""
    batches, stems = [], []
    step = net.step_after_stem
    monkeypatch.setattr(
        net, "step_after_stem", lambda x, u: batches.append(len(x)) or step(x, u), raising=True
    )
    handle = net.stem.register_forward_hook(lambda m, i, out: stems.append(len(out)))
    x = images(B)
    _, steps = answer(net, x)
    assert (batches, stems) == ([B] * T, [B]) and steps.tolist() == [T] * B
    batches.clear()
    level = net(x).cumsum(0)[1].div(2).softmax(-1).amax(-1).median().item()
    _, steps = answer(net, x, confidence=level)
    assert batches == [int((steps > t).sum()) for t in range(int(steps.max()))]
    assert len(set(batches)) > 1
    handle.remove()


@torch.no_grad()
def test_fewer_and_more_steps_and_one_image(net):
    x = images(1)
    for steps in (1, 2, 7):
        logits, taken = answer(net, x, T=steps)
        assert taken.tolist() == [steps]
        torch.testing.assert_close(logits, net(x, T=steps).mean(0), rtol=1e-11, atol=1e-11)
    with pytest.raises(ValueError, match="expected frames of T = 4 time steps, got 3"):
        answer(net, images(3, B))
    with pytest.raises(ValueError, match="T must be a whole number >= 1, got 0"):
        answer(net, x, T=0)
