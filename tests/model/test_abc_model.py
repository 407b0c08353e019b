"""What a network takes and returns."""

import pytest
import torch

from model import METHODS, MODELS, build_model

SIZES = {arch: 64 if row.large_stem else 32 for arch, row in MODELS.items()} | {"resnet19": 12}
T, B, K = 3, 2, 5


def tiny(arch: str = "resnet19", method: str = "esd", **arguments):
    torch.manual_seed(0)
    arguments = {"num_classes": K, "T": T, "width": 2, "branch_pool": None, **arguments}
    return build_model(arch, method=method, **arguments)


@pytest.mark.parametrize("frames", [False, True], ids=["image", "frames"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arch", MODELS)
def test_shapes_of_every_mode(arch: str, method: str, frames: bool) -> None:
    net = tiny(arch, method)
    shape = (B, 3, SIZES[arch], SIZES[arch])
    x = torch.randn(T, *shape) if frames else torch.randn(shape)
    heads = net(x)
    assert [tuple(z.shape) for z in heads] == [(B, K)] * (len(net.branches) + 1)
    assert all(z.requires_grad for z in heads)
    net.eval()
    with torch.no_grad():
        assert net(x).shape == (B, K)
        assert net.time_logits(x).shape == (T, B, K)


def test_evaluation_is_the_mean_over_time_and_the_last_head() -> None:
    net = tiny().double().eval()
    x = torch.randn(B, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), net.time_logits(x).mean(0))
        torch.testing.assert_close(net(x), net.head_logits(x)[-1])


def test_an_image_is_the_same_as_its_frames() -> None:
    x = torch.randn(B, 3, 12, 12, dtype=torch.float64)
    still, moving = tiny().double(), tiny().double()
    for ours, theirs in zip(still(x), moving(x.repeat(T, 1, 1, 1, 1)), strict=True):
        torch.testing.assert_close(ours, theirs)
    for (name, ours), theirs in zip(still.named_buffers(), moving.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_forward_leaves_the_input_alone() -> None:
    x = torch.randn(B, 3, 12, 12)
    before = x.clone()
    tiny()(x)
    assert torch.equal(x, before)


def test_spiking_layers_fire_zeros_and_ones() -> None:
    net = tiny().eval()
    trains: dict[str, torch.Tensor] = {}
    for name, layer in net.spiking_layers():
        layer.register_forward_hook(lambda m, i, spikes, name=name: trains.update({name: spikes}))
    with torch.no_grad():
        net(torch.randn(B, 3, 12, 12))
    assert len(trains) == 18  # of ResNet-19, tests/golden/FORMULAS.md
    assert all(set(train.unique().tolist()) <= {0.0, 1.0} for train in trains.values())
    assert all(train.shape[0] == T * B for train in trains.values())


@pytest.mark.parametrize(
    "shape, named",
    [((B, 3), "shape"), ((B, 2, 12, 12), "3 input channels"), ((T + 1, B, 3, 12, 12), "T = 3")],
)
def test_inputs_that_do_not_fit_are_refused(shape: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        tiny()(torch.randn(shape))


def test_what_belongs_to_another_mode_is_refused() -> None:
    net, x = tiny(), torch.randn(B, 3, 12, 12)
    with pytest.raises(ValueError, match="a memory is for online methods"):
        net(x, {})
    for logits in (net.time_logits, net.all_logits):
        with pytest.raises(ValueError, match="belong to eval mode"):
            logits(x)
