"""One pass equals two: random narrow networks against the two-stage oracle, in float64.

Shapes: T time steps, B batch, C channels, H height, W width, K classes, N heads.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
import torch

from benchmark.reference.two_stage import TwoStageNet
from benchmark.reference.two_stage_layers import LIF
from model import build_model
from tests.support.observe import reference_names
from util.checkpoint import from_reference

RESETS = {
    "soft-detached": (None, True),
    "soft": (None, False),
    "hard": (0.0, True),
    "hard-below-zero": (-0.3, True),
}
# Halvings of the image that a branch's map has been through when it is pooled.
HALVINGS = {"resnet18": 3, "resnet19": 2, "preact_resnet18": 5, "preact_resnet34": 5}


@dataclass(frozen=True)
class Setting:
    """One random network with its input; `seed` draws weights and data.

    sizes: further keyword arguments that both implementations take.
    size: height and width of the image in pixels.
    """

    seed: int
    arch: str
    T: int
    frames: bool
    reset: str
    window: bool
    batch: int
    size: tuple[int, int]
    sizes: dict

    @classmethod
    def drawn(cls, seed: int, arch: str, T: int, *, frames: bool | None = None) -> Setting:
        """Frames or not as drawn, if None; the reset follows the seed."""
        draw = random.Random(seed)
        height = draw.randint(33, 61) if arch.startswith("preact") else draw.randint(9, 17)
        return cls(
            seed,
            arch,
            T,
            frames=draw.random() < 0.5 if frames is None else frames,
            reset=tuple(RESETS)[seed % len(RESETS)],
            window=draw.random() < 0.5,
            batch=draw.randint(2, 4),
            size=(height, height + draw.randint(0, 5)),
            sizes={
                "in_channels": draw.randint(1, 3),
                "width": draw.randint(3, 8),
                "num_classes": draw.randint(2, 11),
                "decay": draw.choice([0.0, 0.2, 0.5, 0.9]),
                "thresh": draw.choice([0.6, 1.0, 1.3]),
            },
        )

    def options(self) -> dict:
        """Keyword arguments that both implementations take."""
        v_reset, detach_reset = RESETS[self.reset]
        neurons = {"v_reset": v_reset, "detach_reset": detach_reset}
        return {"T": self.T, **self.sizes, **neurons, "branch_pool": self.branch_pool()}

    def branch_pool(self) -> int | None:
        """A window that leaves 1x1 of the branches' map, the largest one; or global pooling."""
        shrink = 2 ** HALVINGS[self.arch]
        return min(-(-side // shrink) for side in self.size) if self.window else None

    def __str__(self) -> str:
        source = "frames" if self.frames else "image"
        pool = "window" if self.window else "global"
        return f"{self.arch}-T{self.T}-{source}-{self.reset}-{pool}-seed{self.seed}"


def random_settings() -> list[Setting]:
    """Every T from 1 to 10 with three draws of everything else; each reset and arch in turn."""
    archs = ("resnet18", "resnet19", "preact_resnet18", "resnet18", "preact_resnet34")
    settings = []
    for seed in range(30):
        arch = archs[seed % len(archs)]
        # Max pooling in the preact stem: see the test of frames below.
        frames = False if arch.startswith("preact") else None
        settings.append(Setting.drawn(seed, arch, 1 + seed // 3, frames=frames))
    return settings


SETTINGS = random_settings()


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_one_pass_equals_two_stages(setting):
    """Heads, all gradients, running statistics after one step; then inference."""
    ours, oracle, x = networks(setting)
    compare_training_step(ours, oracle, x)
    ours.eval(), oracle.eval()
    with torch.no_grad():
        heads = ours.head_logits(x)
        for actual, wanted in zip(heads, oracle.eval_heads(x), strict=True):
            assert_close(actual, wanted, 1e-10)
        assert_close(ours(x), oracle.eval_logits(x), 1e-10)
        assert_close(ours.time_logits(x).mean(0), heads[-1], 1e-10)


def test_settings_cover_what_they_should():
    """The draws above are random; what the comparison has to reach is not left to chance."""
    seen = {(s.arch, s.frames) for s in SETTINGS}
    assert {(arch, False) for arch in HALVINGS} <= seen
    assert {("resnet18", True), ("resnet19", True)} <= seen
    assert {s.T for s in SETTINGS} == set(range(1, 11))
    assert {(s.reset, s.window) for s in SETTINGS} == {
        (r, w) for r in RESETS for w in (True, False)
    }


@pytest.mark.parametrize("arch", ["preact_resnet18", "preact_resnet34"])
def test_frames_through_max_pooling_follow_the_published_rate_pass(arch):
    """Max pooling does not commute with the time mean: rates are then no mean of spikes."""
    compare_training_step(*networks(Setting.drawn(100, arch, 4, frames=True)))


@pytest.mark.parametrize("arch", ["resnet18", "resnet19", "preact_resnet18"])
def test_running_the_stem_once_changes_nothing(arch):
    """A static image equals T frames of it: outputs, gradients and running statistics."""
    setting = next(s for s in SETTINGS if s.arch == arch and not s.frames and s.T >= 3)
    once, oracle, image = networks(setting)
    every_step = build_model(arch, **setting.options()).double()
    every_step.load_state_dict(once.state_dict())
    compare_training_step(once, oracle, image)
    heads = every_step(image.expand(setting.T, *image.shape).contiguous())
    sum_of(heads).backward()
    wanted = dict(once.named_parameters())
    total = total_norm(p.grad for p in wanted.values())
    for name, parameter in every_step.named_parameters():
        assert_gradient(parameter.grad, wanted[name].grad, total, name)
    for name, buffer in every_step.named_buffers():
        assert_close(buffer, once.get_buffer(name), 1e-12)


def test_methods_without_branches_have_the_same_spiking_network():
    """`rate` is `esd` without branches."""
    setting = SETTINGS[0]
    _, oracle, x = networks(setting)
    bare = TwoStageNet(setting.arch, branches=False, **setting.options()).double()
    bare.load_state_dict(oracle.state_dict(), strict=False)
    ours = build_model(setting.arch, method="rate", **setting.options()).double()
    ours.load_state_dict(from_reference(bare.state_dict()))
    assert len(ours(x)) == 1
    ours.load_state_dict(from_reference(bare.state_dict()))
    compare_training_step(ours, bare, x)


def networks(setting: Setting):
    """Our network and the oracle with the same random weights, and an input for them."""
    torch.manual_seed(setting.seed)
    oracle = TwoStageNet(setting.arch, **setting.options()).double()
    with torch.no_grad():
        for name, value in oracle.state_dict().items():
            if value.dim() == 1 and value.is_floating_point():
                is_scale = name.endswith(("weight", "running_var"))
                value.copy_(is_scale + 0.2 * torch.rand_like(value))
        if setting.arch == "resnet19":  # its last neurons would hardly fire otherwise
            thresh = setting.sizes["thresh"]
            oracle.classifier[0].weight.mul_(5)
            oracle.classifier[0].bias.uniform_(0.5 * thresh, 1.2 * thresh)
    ours = build_model(setting.arch, **setting.options()).double()
    ours.load_state_dict(from_reference(oracle.state_dict()))
    shape = (setting.batch, setting.sizes["in_channels"], *setting.size)
    x = torch.randn((setting.T, *shape) if setting.frames else shape, dtype=torch.float64)
    return ours, oracle, x


def compare_training_step(ours, oracle, x):
    heads, wanted_heads = ours(x), oracle.train_step_logits(x)
    assert len(heads) == len(wanted_heads)
    for actual, wanted in zip(heads, wanted_heads, strict=True):
        assert_close(actual, wanted, 1e-10)
    sum_of(heads).backward()
    sum_of(wanted_heads).backward()

    assert_neurons_fire(oracle)
    gradients = {name: p.grad for name, p in oracle.named_parameters()}
    names = reference_names(gradients)
    assert {names[name] for name, _ in ours.named_parameters()} == set(gradients)
    total = total_norm(gradients.values())
    for name, parameter in ours.named_parameters():
        assert_gradient(parameter.grad, gradients[names[name]], total, names[name])
    for name, wanted in from_reference(dict(oracle.named_buffers())).items():
        assert_close(ours.get_buffer(name), wanted, 1e-12)


def sum_of(heads) -> torch.Tensor:
    """A fixed random functional of all logits: its gradient reaches every head."""
    generator = torch.Generator().manual_seed(0)
    return sum(
        (head * torch.randn(head.shape, generator=generator, dtype=head.dtype)).sum()
        for head in heads
    )


def assert_neurons_fire(oracle):
    """Silent or saturated networks would make the comparison empty."""
    rates = [float(m.firing_rate.mean()) for m in oracle.modules() if isinstance(m, LIF)]
    assert min(rates) > 0 and max(rates) < 1, rates


def assert_gradient(actual, wanted, total, name):
    """Relative to the gradient of the parameter, or, where that is 0 (the bias of a convolution in
    front of a batch norm), to the whole gradient."""
    error = float((actual - wanted).norm())
    assert error <= max(1e-9 * float(wanted.norm()), 1e-12 * total), (name, error, wanted.norm())


def total_norm(gradients) -> float:
    return float(torch.stack([g.norm() for g in gradients]).norm())


def assert_close(actual, expected, tolerance):
    scale = max(float(expected.detach().abs().max()), 1e-3)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)
