"""The recipe in the card: what was applied, not what was asked for."""

import pytest
import torch

from experiment.imagenet import main as imagenet
from experiment.trained.card import limits, recipe
from experiment.trained.checkpoint import load_trained
from tests.support.image_files import write_image_folder
from tests.support.trained_run import make_checkpoint

CPU = torch.device("cpu")


def recipe_of(tmp_path, *flags):
    return recipe(load_trained(make_checkpoint(tmp_path, *flags), CPU))


def test_what_an_accuracy_depends_on_is_named(tmp_path):
    found = recipe_of(tmp_path, "--teacher", "soft", "--accum", "2", "--sync_bn", "--gpu_aug",
                      "--cutout", "--no-detach_reset")  # fmt: skip
    expected = {"teacher": "soft", "accum": 2, "sync_bn": True, "gpu_aug": True, "cutout": True,
                "auto_aug": False, "detach_reset": False, "beta": 0.3}  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert None not in found.values()


@pytest.mark.parametrize("flags, idle", [
    (("--method", "bptt"), {"alp", "beta", "teacher"}), (("--beta", "0"), {"teacher"}),
    (("--v_reset", "0"), {"detach_reset"}),
])  # fmt: skip
def test_flags_without_effect_are_left_out(tmp_path, flags, idle):
    found = recipe_of(tmp_path, *flags)
    assert {"alp", "beta", "teacher", "detach_reset"} - found.keys() == idle


@pytest.mark.parametrize("applied", [False, True])
def test_imagenet_ignores_augmentation_unless_imagenet_aug_applies_it(tmp_path, applied):
    data = write_image_folder(tmp_path / "data", classes=2)
    switch = ("--imagenet_aug",) if applied else ()
    path = make_checkpoint(tmp_path, "--data_path", str(data), "--auto_aug", "--cutout", *switch,
                           experiment=imagenet)  # fmt: skip
    found = recipe(load_trained(path, CPU, data_path=data))
    assert (found["auto_aug"], found["cutout"]) == (applied, applied)


def test_the_best_epoch_was_chosen_on_the_validation_set_where_there_was_one(tmp_path):
    for flags, name in ((), "test"), (("--val_fraction", "0.2"), "validation"):
        trained = load_trained(make_checkpoint(tmp_path, *flags), CPU)
        assert f"chosen on the {name} set" in limits(trained)[1]
