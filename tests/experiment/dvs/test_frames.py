"""experiment.dvs.frames: samples as stored, checked when they are read."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.datasets import load_npz_frames

from experiment.dvs.augment import resize
from experiment.dvs.frames import EventFrames, FrameFolder

T = 6
SIZE = (16, 16)


@pytest.fixture
def source(tmp_path):
    """Two classes with four samples each."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            counts = generator.integers(0, 300, (T, 2, 16, 16)).astype(np.uint16)
            np.savez(tmp_path / name / f"{number}.npz", frames=counts)
    return FrameFolder(tmp_path, ("cat", "dog"))


def test_samples_are_the_resized_counts_of_the_chosen_indices(source):
    samples = EventFrames(source, [5, 0, 7], T=T, sensor_size=SIZE)
    assert len(samples) == 3 and samples.labels == [1, 0, 1]
    for position, index in enumerate([5, 0, 7]):
        frames, label = samples[position]
        counts = load_npz_frames(source.samples[index][0])
        assert torch.equal(frames, resize(torch.from_numpy(counts), 48))
        assert frames.shape == (T, 2, 48, 48) and label == samples.labels[position]


def test_shuffled_frames_are_the_same_frames_in_an_order_of_each_sample(source):
    indices = list(range(8))
    plain = EventFrames(source, indices, T=T, sensor_size=SIZE)
    shuffled = EventFrames(source, indices, T=T, sensor_size=SIZE, shuffle=True)
    orders = []
    for index in indices:
        frames, again = shuffled[index][0], shuffled[index][0]
        assert torch.equal(frames, again)
        matches = (plain[index][0][:, None] == frames[None]).flatten(2).all(2)
        assert (matches.sum(0) == 1).all() and (matches.sum(1) == 1).all()
        orders.append(tuple(matches.int().argmax(0).tolist()))
    assert len(set(orders)) > 4


def test_shuffling_leaves_the_global_generator_alone(source):
    before = torch.get_rng_state()
    EventFrames(source, [0], T=T, sensor_size=SIZE, shuffle=True)[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_another_number_of_frames_is_refused(source):
    with pytest.raises(ValueError, match=r"0.npz .*\(6, 2, 16, 16\), expected 7 of 2 channels"):
        EventFrames(source, [0], T=7, sensor_size=SIZE)[0]


@pytest.mark.parametrize("damage", ["torn", "empty", "other array"])
def test_a_damaged_file_is_named(source, damage):
    path = source.samples[2][0]
    with open(path, "r+b") as file:
        file.truncate({"torn": 700, "empty": 0, "other array": 0}[damage])
    if damage == "other array":
        np.savez(path, counts=np.zeros(3))
    with pytest.raises(ValueError, match=r"2.npz is damaged .*process.py makes it anew"):
        EventFrames(source, [2], T=T, sensor_size=SIZE)[0]


COUNTS = np.ones((T, 2, *SIZE))


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (np.where(np.arange(16) == 3, np.nan, COUNTS), "values from nan to nan"),
        (np.where(np.arange(16) == 3, np.inf, COUNTS), "values from 1.0 to inf, expected whole"),
        (-COUNTS.astype(int), "values from -1 to -1, expected whole numbers from 0"),
        (COUNTS / 2, "fractions"),
        (COUNTS.astype(complex), "type complex128"),
        (np.ones((T, 2, 16, 34)), "frames of 16 x 34 pixels, expected 16 x 16"),
    ],
)
def test_what_are_no_counts_of_the_sensor_is_refused(source, counts, reason):
    np.savez(source.samples[2][0], frames=counts)
    with pytest.raises(ValueError, match=rf"2.npz is damaged \(.*{reason}"):
        EventFrames(source, [2], T=T, sensor_size=SIZE)[0]


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float16, ">f4"])
def test_whole_numbers_of_every_type_are_counts(source, dtype):
    np.savez(source.samples[2][0], frames=COUNTS.astype(dtype))
    frames, _ = EventFrames(source, [2], T=T, sensor_size=SIZE)[0]
    torch.testing.assert_close(frames, torch.ones_like(frames))


def test_strangers_are_no_classes_and_no_samples(source):
    root = Path(source.root)
    for name in (".ipynb_checkpoints/0.npz", "__MACOSX/cat/0.npz", "new folder/0.npz",
                 "cat/._0.npz", "cat/.ipynb_checkpoints/0.npz", "cat/notes.txt"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.samples[0][0], root / name)
    (root / "dog" / "3.npz").rename(root / "dog" / "3.NPZ")
    again = FrameFolder(root, ("cat", "dog"))
    assert again.classes == ["cat", "dog"] and again.targets == source.targets
    assert [path.lower() for path, _ in again.samples] == [p.lower() for p, _ in source.samples]
