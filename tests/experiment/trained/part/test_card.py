"""The recipe in the card: what was applied, not what was asked for."""

import pytest

from experiment.imagenet import main as imagenet
from experiment.trained.part.card import limits, recipe
from experiment.trained.part.trained_network import load_trained
from tests.support.image_files import write_image_folder
from tests.support.trained_run import CPU, make_checkpoint, make_trained


def test_what_an_accuracy_depends_on_is_named(tmp_path):
    flags = "--teacher soft --accum 2 --sync_bn --cutout --no-detach_reset"
    found = recipe(make_trained(tmp_path, *flags.split()))
    expected = {"teacher": "soft", "accum": 2, "sync_bn": True, "cutout": True}
    expected |= {"auto_aug": False, "detach_reset": False, "beta": 0.3}
    assert {name: found[name] for name in expected} == expected
    assert None not in found.values()


IDLE = [
    (("--method", "bptt"), {"alp", "beta", "teacher"}),
    (("--beta", "0"), {"teacher"}),
    (("--v_reset", "0"), {"detach_reset"}),
]


@pytest.mark.parametrize("flags, idle", IDLE)
def test_flags_without_effect_are_left_out(tmp_path, flags, idle):
    found = recipe(make_trained(tmp_path, *flags))
    assert {"alp", "beta", "teacher", "detach_reset"} - found.keys() == idle


@pytest.mark.parametrize("applied", [False, True])
def test_imagenet_ignores_augmentation_unless_imagenet_aug_applies_it(tmp_path, applied):
    data = write_image_folder(tmp_path / "data", classes=2)
    switch = ("--imagenet_aug",) if applied else ()
    flags = ("--data_path", str(data), "--auto_aug", "--cutout", *switch)
    make_checkpoint(tmp_path, *flags, experiment=imagenet)
    found = recipe(load_trained(tmp_path / "best.pt", CPU, data_path=data))
    assert (found["auto_aug"], found["cutout"]) == (applied, applied)


def test_the_best_epoch_was_chosen_on_the_validation_set_where_there_was_one(tmp_path):
    for flags, name in ((), "test"), (("--val_fraction", "0.2"), "validation"):
        assert f"chosen on the {name} set" in limits(make_trained(tmp_path, *flags))[1]
