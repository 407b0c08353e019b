"""What of the weights in a file a new run begins with, and whose weights it refuses."""

import pytest
import torch

from experiment.data_description import describe_data
from experiment.train.weights import begin_with
from model import build_model
from util.checkpoint import CheckpointError, save_checkpoint
from util.data import load_dataset

ARGUMENTS = {"arch": "resnet18", "width": 2, "stem": "published"}
DIGITS = describe_data(load_dataset("Digits", "nowhere"))
FEWER = DIGITS._replace(class_names=("a", "b"))
RENAMED = DIGITS._replace(class_names=DIGITS.class_names[::-1])


def network(data=DIGITS, seed=0, **changes):
    torch.manual_seed(seed)
    arguments = {**ARGUMENTS, "T": 2, "in_channels": 1, **changes}
    return build_model(**arguments, num_classes=data.num_classes)


def saved(folder, data=DIGITS, said=ARGUMENTS, **changes):
    """A checkpoint of ours; said: its arguments, of which a published file has none."""
    state = {"model": network(data, **changes).state_dict(), "arguments": said}
    save_checkpoint(state | ({"data": data.plain()} if said else {}), folder / "best.pt")
    return folder / "best.pt"


def begun(path, data=DIGITS, **changes):
    """What a network with other random weights takes from a file: the layers left, and the line."""
    net = network(data, seed=1, **changes)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    line = begin_with(net, path, ARGUMENTS, data)
    source = network(seed=0).state_dict()
    for key, value in net.state_dict().items():
        taken = key in source and torch.equal(value, source[key])
        assert taken or torch.equal(value, before[key]), key
    same = {k for k, v in net.state_dict().items() if torch.equal(v, before[k])}
    weights = {key for key in same if key.endswith(".weight") and "norm" not in key}
    return sorted(key.removesuffix(".weight") for key in weights), line


HEADS = [*(f"branches.{i}.classifier" for i in range(3)), "classifier.0"]


@pytest.mark.parametrize(
    ("data", "fresh", "words"),
    [
        (DIGITS, [], "weights of 92 of 92 layers taken"),
        (FEWER, HEADS, "fresh: the classifiers of 4 heads (10 classes there, 2 here)"),
        (RENAMED, HEADS, "fresh: the classifiers of 4 heads (other classes there: '0', '1', "),
    ],
)
def test_only_a_head_of_other_classes_starts_fresh(data, fresh, words, tmp_path):
    found, line = begun(saved(tmp_path), data)
    assert found == fresh
    assert line.startswith(f"--init {tmp_path / 'best.pt'}: weights of ") and words in line


def test_time_steps_neurons_and_image_size_may_be_others(tmp_path):
    changes = {"T": 5, "decay": 0.7, "thresh": 0.4, "v_reset": 0.0, "branch_pool": None}
    assert begun(saved(tmp_path), DIGITS._replace(image_size=64), **changes)[0] == []


def test_a_file_that_does_not_name_its_classes_gives_heads_that_fit(tmp_path):
    path = saved(tmp_path, said={})
    assert begun(path, RENAMED)[0] == []
    assert "it does not name its classes" in begun(path, RENAMED)[1]
    assert begun(path, FEWER)[0] == HEADS


def test_branches_come_and_go_with_the_method(tmp_path):
    fresh, line = begun(saved(tmp_path, method="rate"))
    assert fresh and all(layer.startswith("branches.") for layer in fresh)
    assert "fresh: the branches, which it lacks" in line and "classifiers" not in line
    fresh, line = begun(saved(tmp_path), FEWER, method="bptt")
    assert fresh == ["classifier.0"]
    assert (
        "left: its branches" in line and "fresh: the classifier (10 classes there, 2 here)" in line
    )


REFUSED = [
    ({"width": 3}, True, "was trained with --width 3: give the same"),
    ({"arch": "resnet19", "width": None}, True, "with --arch resnet19 --width paper: give"),
    ({"arch": "ms_resnet18", "stem": "small"}, True, "with --arch ms_resnet18 --stem small: give"),
    ({"width": 3}, False, "give the --arch, --width and --stem that it was trained with"),
    ({"in_channels": 3}, True, "on data of 3 channels, and these have 1: name other data"),
    ({"in_channels": 2}, False, "on data of 2 channels, and these have 1: name other data"),
]


@pytest.mark.parametrize(("changes", "says_so", "words"), REFUSED)
def test_another_network_is_refused_and_nothing_is_taken(changes, says_so, words, tmp_path):
    said = ARGUMENTS | {k: v for k, v in changes.items() if k in ARGUMENTS}
    path = saved(tmp_path, said=said if says_so else {}, **changes)
    net = network(seed=1)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(CheckpointError) as refusal:
        begin_with(net, path, ARGUMENTS, DIGITS)
    assert f"--init {path} " in str(refusal.value) and words in str(refusal.value)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("dataset", "advice"), [("Folder", "give --channels 3"), ("Digits", "name other data")]
)
def test_the_channels_to_give_are_named_where_that_flag_has_an_effect(dataset, advice, tmp_path):
    path = saved(tmp_path, in_channels=3)
    with pytest.raises(CheckpointError, match=f"these have 1: {advice}"):
        begin_with(network(), path, ARGUMENTS | {"dataset": dataset, "channels": None}, DIGITS)


def test_a_width_in_other_words_is_the_same(tmp_path):
    """None is the published 64."""
    path = saved(tmp_path, said=ARGUMENTS | {"width": None}, width=None)
    net = network(width=64, seed=1)
    assert "92 of 92" in begin_with(net, path, ARGUMENTS | {"width": 64}, DIGITS)
