"""A checkpoint comes back exactly or not at all, and never runs code."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from tests.support.damage import (
    EVIL,
    PAGE,
    WRAPPINGS,
    appended,
    bit_flipped,
    cut,
    end_flipped,
    malicious_file,
    page_zeroed,
)
from util.checkpoint import (
    CheckpointError,
    from_reference,
    load_checkpoint,
    load_with_model,
    save_checkpoint,
    sealed_archive,
)

LOADERS = [load_checkpoint, load_with_model]


def training_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "model": {
            "stem.conv.weight": torch.randn(7, 3, 3, 3, generator=generator),
            "stem.norm.num_batches_tracked": torch.tensor(41),
            "half": torch.randn(5, generator=generator).bfloat16(),
        },
        "optimizer": {"state": {0: {"momentum_buffer": torch.randn(11)}}, "lr": [0.1, 1e-300]},
        "random": {"torch": torch.get_rng_state()},
        "epoch": 2**40,
        "best": float("inf"),
        "betas": (0.9, 0.999),
        "scaler": None,
        "name": "spiking – ζ",
        "finished": False,
    }


def assert_same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs


def test_a_state_comes_back_bit_for_bit(tmp_path):
    state = training_state()
    save_checkpoint(state, tmp_path / "last.pt")
    assert_same(load_checkpoint(tmp_path / "last.pt"), state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt"]


def test_anyone_can_read_the_file(tmp_path):
    state = training_state()
    save_checkpoint(state, tmp_path / "last.pt")
    assert_same(torch.load(tmp_path / "last.pt", weights_only=True), state)
    assert_same(torch.load(tmp_path / "last.pt", weights_only=True, mmap=True), state)
    with zipfile.ZipFile(tmp_path / "last.pt") as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"sha256:")


def test_real_optimizer_and_scheduler_states_are_plain(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
    for optimizer in (
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        torch.optim.Adam(model.parameters()),
    ):
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
        model(torch.randn(2, 3, 5, 5)).sum().backward()
        optimizer.step()
        scheduler.step()
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        state = {name: part.state_dict() for name, part in parts.items()}
        save_checkpoint(state, tmp_path / "last.pt")
        loaded = load_checkpoint(tmp_path / "last.pt")
        assert type(loaded["model"]) is dict  # state_dict() returns an OrderedDict
        assert_same(loaded["optimizer"], state["optimizer"])
        assert_same(loaded["scheduler"], state["scheduler"])


def test_a_slice_does_not_drag_its_storage_along():
    small = sealed_archive({"x": torch.arange(10.0)})
    sliced = sealed_archive({"x": torch.arange(1_000_000.0)[:10]})
    assert len(sliced) == len(small)


def test_shared_storage_stays_shared_and_is_stored_once(tmp_path):
    weight = torch.randn(1000)
    save_checkpoint({"a": weight, "b": weight}, tmp_path / "last.pt")
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()


class Custom:
    pass


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.float64(1.0), "numpy.float64"),  # a subclass of float: an isinstance test lets it pass
        (np.zeros(3), "numpy.ndarray"),
        (Custom(), "Custom"),
        (torch.nn.Parameter(torch.zeros(2)), "Parameter"),
        (torch.Size([2, 3]), "torch.Size"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (len, "builtin_function_or_method"),
    ],
)
def test_other_types_are_refused_before_anything_is_written(tmp_path, value, name):
    with pytest.raises(ValueError, match=name) as refusal:
        save_checkpoint({"outer": [0, {"inner": value}]}, tmp_path / "last.pt")
    assert "state['outer'][1]['inner']" in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_other_keys_and_other_roots_are_refused():
    for state, complaint in (({"a": {(1, 2): 3}}, "key"), ([1, 2], "must be a dict")):
        with pytest.raises(ValueError, match=complaint):
            sealed_archive(state)


def assert_refused(path, loaders=LOADERS):
    """Each loader refuses the file in one sentence with its name."""
    for load in loaders:
        with pytest.raises(CheckpointError) as refusal:
            load(path)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("damage", "count", "loaders"),
    [
        (cut, 17, LOADERS),
        (bit_flipped, 400, [load_checkpoint]),
        (end_flipped, 200, LOADERS),
        (page_zeroed, 100, LOADERS),
        (appended, 3, LOADERS),
    ],
)
def test_every_damage_is_detected(damage, count, loaders, tmp_path):
    state = training_state() | {"large": torch.randn(50_000)}
    good, path = bytes(sealed_archive(state)), tmp_path / "damaged.pt"
    assert len(good) > 40 * PAGE
    for number in range(count):
        path.write_bytes(damage(good, number))
        assert_refused(path, loaders)


def test_missing_folder_and_special_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nothing.pt", tmp_path, tmp_path / "pipe"):
        assert_refused(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", b"\x80\x02.", bytes(1000)])
def test_files_of_other_kinds_are_refused(tmp_path, content):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    assert_refused(path)
    torch.save(torch.zeros(3), path)
    assert_refused(path)


@pytest.mark.parametrize("load", LOADERS)
def test_a_whole_file_of_another_kind_is_named(tmp_path, load):
    (tmp_path / "best.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    with pytest.raises(CheckpointError, match=r"best.pt is a picture.*, no checkpoint: name one"):
        load(tmp_path / "best.pt")


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_malicious_files_are_refused_and_nothing_runs(tmp_path, kind, wrapping):
    mark, path = tmp_path / "executed", tmp_path / "evil.pt"
    path.write_bytes(malicious_file(kind, wrapping, mark))
    assert_refused(path)
    if wrapping == "sealed":  # a correct digest does not make a file trusted
        with pytest.raises(CheckpointError, match="no code was run"):
            load_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("kind", EVIL)
def test_the_malicious_files_do_harm_where_nobody_guards(tmp_path, kind):
    """The proof that the test above could fail: the plain unpickler executes them."""
    pickle.loads(malicious_file(kind, "pickle", tmp_path / "executed"))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_published_files_give_weights_with_our_names(tmp_path, legacy):
    weights = {"conv0.0.weight": torch.randn(4, 3, 3, 3), "classifier.0.bias": torch.randn(10)}
    weights = OrderedDict(weights)  # as state_dict() returns it
    published = {"best_acc": 80.2, "best_epoch": 299, "best_net": weights}
    for name, content in (("model_weights.pth", published), ("bare.pth", weights)):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        (loaded,) = load_with_model(tmp_path / name).values()
        assert list(loaded) == ["stem.conv.weight", "classifier.0.bias"]
        for key, value in from_reference(weights).items():
            assert torch.equal(loaded[key], value)
        with pytest.raises(CheckpointError, match="no digest"):
            load_checkpoint(tmp_path / name)


def test_our_checkpoints_are_read_as_they_are(tmp_path):
    state = training_state()
    save_checkpoint(state, tmp_path / "best.pt")
    assert_same(load_with_model(tmp_path / "best.pt"), state)


def test_damage_inside_a_published_tensor_is_found_by_its_crc(tmp_path):
    path = tmp_path / "model_weights.pth"
    weight = torch.randn(1000)
    torch.save({"best_net": {"conv0.0.weight": weight}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 1234] ^= 16
    path.write_bytes(content)
    assert not torch.equal(
        torch.load(io.BytesIO(content), weights_only=True)["best_net"]["conv0.0.weight"], weight
    )
    with pytest.raises(CheckpointError, match="fails its CRC"):
        load_with_model(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"best_net": {"conv9.weight": torch.zeros(1)}}, "conv9.weight"),
        ({"epoch": 3}, "no known layout"),
        ({"best_net": {}}, "no weights"),
        ({"best_net": 5}, "no weights"),
    ],
)
def test_foreign_files_without_known_weights_are_refused(tmp_path, content, complaint):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=complaint) as refusal:
        load_with_model(tmp_path / "other.pth")
    assert "other.pth" in str(refusal.value)


def test_our_checkpoints_need_a_model_and_their_digest_to_give_weights(tmp_path):
    path = tmp_path / "odd.pt"
    save_checkpoint({"epoch": 3}, path)
    with pytest.raises(CheckpointError, match="no entry 'model'"):
        load_with_model(path)
    torch.save(training_state(), path)
    with pytest.raises(CheckpointError, match="lacks the digest"):
        load_with_model(path)
