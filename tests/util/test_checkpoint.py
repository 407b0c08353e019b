"""A checkpoint comes back exactly or not at all, and never runs code."""

import builtins
import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from util.checkpoint import (
    CheckpointError,
    from_reference,
    load_checkpoint,
    load_foreign_weights,
    load_initial_weights,
    save_checkpoint,
    sealed_archive,
)


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


@pytest.fixture
def good_bytes(tmp_path):
    path = tmp_path / "good.pt"
    save_checkpoint(training_state(), path)
    return path.read_bytes()


def assert_refused(path, loaders=(load_checkpoint, load_foreign_weights, load_initial_weights)):
    for load in loaders:
        with pytest.raises(CheckpointError) as refusal:
            load(path)
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)


# --- what is written ---------------------------------------------------------------------------


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
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
        }
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


def test_other_keys_and_other_roots_are_refused(tmp_path):
    with pytest.raises(ValueError, match="key"):
        save_checkpoint({"a": {(1, 2): 3}}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="must be a dict"):
        save_checkpoint([1, 2], tmp_path / "last.pt")


# --- damage ------------------------------------------------------------------------------------


def test_every_truncation_is_detected(tmp_path, good_bytes):
    path = tmp_path / "cut.pt"
    cuts = {len(good_bytes) * k // 16 for k in range(16)} | {len(good_bytes) - 1}
    for length in cuts:
        path.write_bytes(good_bytes[:length])
        assert_refused(path)


def test_every_bit_flip_is_detected(tmp_path, good_bytes):
    path = tmp_path / "flipped.pt"
    choose = random.Random(4)
    silently_accepted_by_torch = 0
    for _ in range(400):
        bit = choose.randrange(8 * len(good_bytes))
        damaged = bytearray(good_bytes)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert_refused(path, [load_checkpoint])
        try:
            torch.load(path, weights_only=True)
            silently_accepted_by_torch += 1
        except Exception:
            pass
    # The digest is what detects them: torch itself lets most of them through.
    assert silently_accepted_by_torch > 200


def test_every_bit_of_the_digest_counts(tmp_path, good_bytes):
    path = tmp_path / "flipped.pt"
    for bit in range(8 * (len(good_bytes) - 75), 8 * len(good_bytes), 3):
        damaged = bytearray(good_bytes)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert_refused(path)


def test_every_zeroed_page_is_detected(tmp_path):
    path = tmp_path / "zeroed.pt"
    save_checkpoint({"model": {"w": torch.randn(100_000)}}, path)
    good = path.read_bytes()
    assert len(good) > 90 * 4096
    choose = random.Random(5)
    for _ in range(100):
        start = 4096 * choose.randrange(-(-len(good) // 4096))
        damaged = bytearray(good)
        damaged[start : start + 4096] = bytes(len(damaged[start : start + 4096]))
        path.write_bytes(damaged)
        assert_refused(path)


def test_appended_bytes_are_detected(tmp_path, good_bytes):
    path = tmp_path / "longer.pt"
    for content in (good_bytes + b"\0", good_bytes + b"\n", good_bytes + good_bytes):
        path.write_bytes(content)
        assert_refused(path)


def test_missing_folder_and_special_files_are_refused(tmp_path):
    assert_refused(tmp_path / "nothing.pt")
    assert_refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert_refused(tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"PK", b"hello", b"\x80\x02.", bytes(1000)])
def test_files_of_other_kinds_are_refused(tmp_path, content):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    assert_refused(path)


@pytest.mark.parametrize("content, kind", [
    (b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture"), (b"seeds = [60]\n", "a text file"),
    (b"\x02" + bytes(7) + b"{}", "a safetensors file"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
])  # fmt: skip
@pytest.mark.parametrize("load", [load_checkpoint, load_foreign_weights, load_initial_weights])
def test_a_whole_file_of_another_kind_is_named(tmp_path, content, kind, load):
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"best.pt is {kind}.*, no checkpoint: name one"):
        load(tmp_path / "best.pt")


def test_a_tensor_alone_is_no_checkpoint(tmp_path):
    path = tmp_path / "tensor.pt"
    torch.save(torch.zeros(3), path)
    assert_refused(path)


# --- malice ------------------------------------------------------------------------------------


class Call:
    """Unpickles into a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class BuildOnLoad:
    """Unpickles through __setstate__ of a class that torch does not know."""

    def __setstate__(self, state):
        open(state["mark"], "w").close()

    def __getstate__(self):
        return {"mark": self.mark}


def malicious_objects(mark):
    build = BuildOnLoad()
    build.mark = mark
    return {
        "os.system": Call(os.system, f"touch {mark}"),
        "eval": Call(builtins.eval, f"open({mark!r}, 'w').close()"),
        "import": Call(builtins.__import__, "antigravity"),
        "reduce": build,
        "nested": OrderedDict(a=[{"b": (torch.zeros(2), [Call(os.mkdir, mark)])}]),
    }


@pytest.mark.parametrize("kind", ["os.system", "eval", "import", "reduce", "nested"])
@pytest.mark.parametrize("wrapping", ["pickle", "torch.save", "legacy torch.save", "sealed"])
def test_malicious_files_are_refused_and_nothing_runs(tmp_path, monkeypatch, kind, wrapping):
    mark = str(tmp_path / "executed")
    path = tmp_path / "evil.pt"
    state = {"model": {"w": torch.zeros(3)}, "extra": malicious_objects(mark)[kind]}
    if wrapping == "pickle":
        path.write_bytes(pickle.dumps(state["extra"], protocol=2))
    elif wrapping == "sealed":  # a correct digest does not make a file trusted
        monkeypatch.setattr("util.checkpoint._plain", lambda value, place: value)
        path.write_bytes(sealed_archive(state))
        with pytest.raises(CheckpointError, match="no code was run"):
            load_checkpoint(path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=wrapping == "torch.save")
    assert_refused(path)
    assert not os.path.exists(mark)
    assert "antigravity" not in __import__("sys").modules


def test_the_malicious_objects_do_work_where_nobody_guards(tmp_path):
    """The proof that the test above could fail: the plain unpickler executes them."""
    for kind, evil in malicious_objects(str(tmp_path / "executed")).items():
        if kind != "import":  # would open a browser
            pickle.loads(pickle.dumps(evil))
            marked = tmp_path / "executed"
            assert marked.exists(), kind
            marked.rmdir() if marked.is_dir() else marked.unlink()


# --- weights of others -------------------------------------------------------------------------


def reference_weights():
    return OrderedDict(
        (("conv0.0.weight", torch.randn(4, 3, 3, 3)), ("classifier.0.bias", torch.randn(10)))
    )


@pytest.mark.parametrize("legacy", [False, True])
def test_published_files_give_weights_with_our_names(tmp_path, legacy):
    weights = reference_weights()
    published = {"best_acc": 80.2, "best_epoch": 299, "best_net": weights}
    for name, content in (("model_weights.pth", published), ("bare.pth", weights)):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        loaded = load_initial_weights(tmp_path / name)
        assert list(loaded) == ["stem.conv.weight", "classifier.0.bias"]
        for key, value in from_reference(weights).items():
            assert torch.equal(loaded[key], value)
        assert list(load_foreign_weights(tmp_path / name)) == list(content)
        with pytest.raises(CheckpointError, match="no digest"):
            load_checkpoint(tmp_path / name)


def test_our_checkpoints_give_their_model(tmp_path):
    state = training_state()
    save_checkpoint(state, tmp_path / "best.pt")
    assert_same(load_initial_weights(tmp_path / "best.pt"), state["model"])


def test_a_checkpoint_of_ours_without_its_digest_gives_nothing(tmp_path):
    torch.save(training_state(), tmp_path / "rewritten.pt")
    with pytest.raises(CheckpointError, match="lacks the digest"):
        load_initial_weights(tmp_path / "rewritten.pt")


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
        load_initial_weights(path)


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
        load_initial_weights(tmp_path / "other.pth")
    assert "other.pth" in str(refusal.value)


def test_a_checkpoint_without_a_model_is_refused_as_initial_weights(tmp_path):
    save_checkpoint({"epoch": 3}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="no entry 'model'"):
        load_initial_weights(tmp_path / "odd.pt")
