"""The recipe in the card: what was applied, not what was asked for."""

from types import SimpleNamespace

import pytest

from experiment.dvs import main as dvs
from experiment.imagenet import main as imagenet
from experiment.trained.part.card import input_section, limits, precision_note, recipe
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


def test_what_is_off_by_default_is_named_where_it_is_on(tmp_path):
    off = {"label_smoothing", "warmup", "clip_norm", "label_noise", "sparse", "compile"}
    assert not off & recipe(make_trained(tmp_path)).keys()
    found = recipe(make_trained(tmp_path, "--label_smoothing", "0.1", "--beta", "0"))
    assert (found["label_smoothing"], found["beta"]) == (0.1, 0.0)


def test_initial_weights_are_named_without_the_folders_of_a_machine(tmp_path):
    flags = ("--init", str(tmp_path / "runs" / "a run" / "best.pt"))
    assert str(recipe(make_trained(tmp_path, *flags))["init"]) == "a run/best.pt"


@pytest.mark.parametrize("name", ["Digits", "FakeData"])
def test_how_a_picture_is_fitted_is_said(name):
    values = {"data": name, "kind": "images", "image_size": 32, "resize": 36, "mean": [0.1]}
    text = input_section({**values, "std": [0.2], "network": {"in_channels": 1}}, 4)
    assert "1 x 32 x 32 pixels" in text and "side of a picture to 36 pixels" in text
    assert ("white on black" in text) == (name == "Digits")


IDLE = [
    (("--method", "bptt"), {"alp", "beta", "teacher"}),
    (("--beta", "0"), {"teacher"}),
    (("--v_reset", "0"), {"detach_reset"}),
]


@pytest.mark.parametrize("flags, idle", IDLE)
def test_flags_without_effect_are_left_out(tmp_path, flags, idle):
    found = recipe(make_trained(tmp_path, *flags))
    assert {"alp", "beta", "teacher", "detach_reset"} - found.keys() == idle


@pytest.mark.parametrize(
    ("flags", "averaged", "named"),
    [("", False, False), ("--teacher ema", False, True), ("", True, True)],
)
def test_an_average_is_named_that_the_weights_are_or_that_taught_them(
    tmp_path, flags, averaged, named
):
    path = make_checkpoint(tmp_path, "--ema", "0.9", *flags.split(), averaged=averaged)
    assert ("ema" in recipe(load_trained(path, CPU))) == named


@pytest.mark.parametrize("applied", [False, True])
def test_imagenet_ignores_augmentation_unless_imagenet_aug_applies_it(tmp_path, applied):
    data = write_image_folder(tmp_path / "data", classes=2)
    switch = ("--imagenet_aug",) if applied else ()
    flags = ("--data_path", str(data), "--auto_aug", "--cutout", *switch)
    make_checkpoint(tmp_path, *flags, experiment=imagenet)
    found = recipe(load_trained(tmp_path / "best.pt", CPU, data_path=data))
    assert (found["auto_aug"], found["cutout"]) == (applied, applied)


def test_of_event_data_the_flip_is_named_that_was_applied(trained):
    args = dvs.get_parser().parse_args(["--dataset", "DigitsDVS", "--flip"])
    for applied in (True, False):
        run = trained._replace(arguments=vars(args), data=SimpleNamespace(flip=applied))
        assert recipe(run)["flip"] is applied


def test_the_best_epoch_was_chosen_on_the_validation_set_where_there_was_one(tmp_path):
    for flags, name in ((), "test"), (("--val_fraction", "0.2"), "validation"):
        assert f"chosen on the {name} set" in limits(make_trained(tmp_path, *flags))[1]


def test_the_precision_of_the_training_is_named_and_that_of_its_evaluation():
    assert precision_note("none") == ""
    for amp in ("fp16", "bf16-backward", "bf16"):
        note = precision_note(amp)
        assert f"`--amp {amp}`" in note
        assert ("the run itself reports may differ" in note) == (amp == "bf16")
