"""Networks by name: stems, initialisation, refusals; the golden networks have the paper's sizes."""

import math

import pytest
import torch

from model import MODELS, TEACHERS, build_model
from model.distillation import reliable_teacher
from model.registry import teacher_named
from model.spike_train import SpikeTrain


@pytest.mark.parametrize("arch", [arch for arch, row in MODELS.items() if row.large_stem])
def test_a_small_stem_leaves_the_image_its_size(arch: str) -> None:
    x = SpikeTrain(torch.randn(4, 3, 12, 10), 2, False)
    for stem, size in (("small", (12, 10)), ("published", (3, 3))):
        net = build_model(arch, num_classes=3, T=2, width=2, stem=stem, method="bptt")
        assert net.stages[0](net.stem(x)).maps.shape == (4, 2, *size)


def test_convolutions_of_preact_resnets_start_with_kaiming_fan_out() -> None:
    net = build_model("preact_resnet18", num_classes=3, T=2, width=32)
    conv = net.stages[2][1].unit1.conv
    expected = math.sqrt(2 / (conv.out_channels * 9))
    assert abs(conv.weight.std().item() / expected - 1) < 0.03


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"arch": "resnet20"}, "resnet20"),
        ({"method": "backprop"}, "backprop"),
        ({"T": 0}, "T"),
        ({"T": 2.0}, "T"),
        ({"num_classes": 0}, "num_classes"),
        ({"in_channels": -1}, "in_channels"),
        ({"width": 0}, "width"),
        ({"branch_pool": 0}, "branch_pool"),
        ({"branch_gradient": "cut"}, "branch_gradient 'cut'"),
        ({"decay": 1.5}, "decay"),
        ({"decay": float("nan")}, "decay"),
        ({"thresh": 0}, "thresh"),
        ({"v_reset": 1.0}, "v_reset"),
        ({"v_reset": -float("inf")}, "v_reset must be None or finite"),
        ({"thresh": "1"}, "thresh must be a number, got '1'"),
        ({"detach_reset": "no"}, "detach_reset must be True or False, got 'no'"),
        ({"num_classes": True}, "num_classes must be a whole number >= 1, got True"),
        ({"stem": "large"}, "unknown stem 'large'"),
        ({"stem": "small"}, "resnet18 has a small stem"),
    ],
)
def test_wrong_values_are_refused_by_name(arguments: dict, named: str) -> None:
    complete = {"arch": "resnet18", "num_classes": 3, "T": 2, **arguments}
    with pytest.raises(ValueError, match=named):
        build_model(**complete)


def test_a_teacher_is_found_by_its_name() -> None:
    assert teacher_named("reliable").teach is reliable_teacher
    assert all(teacher_named(name) is row for name, row in TEACHERS.items())
    with pytest.raises(ValueError, match="unknown teacher 'none': choose one of reliable, soft"):
        teacher_named("none")
