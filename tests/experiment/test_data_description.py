"""A description of data travels with the weights, and tells other data from these."""

import pytest

from experiment.data_description import (
    describe_data,
    description_in,
    refuse_other_classes,
)
from util.checkpoint import load_checkpoint, save_checkpoint
from util.data import load_dataset
from util.image.imagenet import make_random_data


def digits(**options):
    return load_dataset("Digits", "nowhere", **options)


def test_it_comes_back_from_a_checkpoint(tmp_path):
    data = digits(validation_fraction=0.2)
    described = describe_data(data)
    assert (described.name, described.kind, described.num_classes) == ("Digits", "images", 10)
    assert described.training_samples == len(data.train) < 1437
    assert (described.test_samples, described.image_size, described.resize) == (360, 32, 32)
    save_checkpoint({"data": described.plain()}, tmp_path / "x.pt")
    assert description_in(load_checkpoint(tmp_path / "x.pt")) == described
    assert description_in({}) is description_in({"data": None}) is None


@pytest.mark.parametrize("entry", [{}, {"name": "Digits"}, "Digits", 3])
def test_one_that_is_incomplete_is_refused(entry):
    with pytest.raises(ValueError, match="description of the data is incomplete"):
        description_in({"data": entry})


IMPOSSIBLE = {
    "class_names": ([1, 2], None, "ab"),
    "mean": (None,),
    "std": ([0.1, 0.2],),
    "kind": ("sounds",),
    "training_samples": ("many",),
    "image_size": (-1,),
    "channels": (1.5,),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_values_that_cannot_be_are_refused(name):
    sound = describe_data(digits()).plain()
    assert description_in({"data": sound | {"later": 1}}).plain() == sound
    for value in IMPOSSIBLE[name]:
        with pytest.raises(ValueError, match="description of the data is incomplete or damaged"):
            description_in({"data": sound | {name: value}})


@pytest.mark.parametrize(
    ("known", "there", "parts"),
    [
        ("cat dog", "ant cat", ["2 classes ('cat', 'dog')", "2 ('ant', 'cat')", "0 is 'cat'"]),
        ("cat dog", "cat", ["have 1 ('cat')", "class 1 is 'dog' to it and missing in"]),
        ("cat", "cat dog", ["class 1 is missing to it and 'dog' in"]),
        ("dog cat", "cat dog", ["class 0 is 'dog'"]),
    ],
)
def test_other_classes_are_refused_by_name(known, there, parts):
    described = describe_data(digits())
    saved, found = (described._replace(class_names=tuple(x.split())) for x in (known, there))
    with pytest.raises(ValueError) as refusal:
        refuse_other_classes(saved, found)
    assert all(part in str(refusal.value) for part in parts), refusal.value
    refuse_other_classes(saved, saved)
    refuse_other_classes(None, found)


def test_of_a_thousand_classes_ten_and_the_first_that_differs_are_named():
    described = describe_data(make_random_data(4, image_size=16))
    other = described._replace(class_names=(*described.class_names[:900], "zebra"))
    with pytest.raises(ValueError) as refusal:
        refuse_other_classes(described, other)
    assert "1000 classes ('noise 0', " in str(refusal.value)
    assert "class 900 is 'noise 900' to it and 'zebra' in the data" in str(refusal.value)
    assert len(str(refusal.value)) < 600
    long = described._replace(class_names=("x" * 255, "y" * 255))
    with pytest.raises(ValueError) as refusal:
        refuse_other_classes(long, long._replace(class_names=("z" * 255,)))
    assert len(str(refusal.value)) < 600
