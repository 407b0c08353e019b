"""experiment.dvs.frames: samples as stored, checked when they are read."""

import shutil

import numpy as np
import pytest
import torch

from experiment.dvs.frames import EventFrames, list_samples

T = 6
SIZE = (16, 16)


@pytest.fixture
def samples(tmp_path):
    """Two classes with four samples each."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            counts = generator.integers(0, 300, (T, 2, 16, 16)).astype(np.uint16)
            np.savez(tmp_path / name / f"{number}.npz", frames=counts)
    return list_samples(tmp_path, ("cat", "dog"))


def test_shuffled_frames_are_the_same_frames_in_an_order_of_each_sample(samples):
    indices, before = list(range(8)), torch.get_rng_state()
    plain = EventFrames(samples, indices, T, SIZE)
    shuffled = EventFrames(samples, indices, T, SIZE, shuffle=True)
    orders = []
    for index in indices:
        frames, again = shuffled[index][0], shuffled[index][0]
        assert torch.equal(frames, again)
        matches = (plain[index][0][:, None] == frames[None]).flatten(2).all(2)
        assert (matches.sum(0) == 1).all() and (matches.sum(1) == 1).all()
        orders.append(tuple(matches.int().argmax(0).tolist()))
    assert len(set(orders)) > 4
    assert torch.equal(torch.get_rng_state(), before)


COUNTS = np.ones((T, 2, *SIZE))
ONE_COLUMN = np.arange(16) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"frames": np.where(ONE_COLUMN, np.nan, COUNTS)}, "values from nan to nan"),
        ({"frames": -COUNTS.astype(int)}, "values from -1 to -1, expected whole numbers from 0"),
        ({"frames": COUNTS / 2}, "fractions"),
        ({"frames": COUNTS.astype(complex)}, "type complex128"),
        ({"frames": np.ones((T, 2, 16, 34))}, "frames of 34x16 pixels, expected 16x16 pixels"),
        ({"frames": COUNTS[1:]}, "5 frames, expected 6"),
        ({"counts": COUNTS}, "frames"),
        (700, ""),
        (0, ""),
    ],
)
def test_a_file_of_anything_else_is_named_with_the_reason(samples, content, reason):
    """A number is what is left of the file, in bytes."""
    path = samples[2][0]
    if isinstance(content, int):
        with open(path, "r+b") as file:
            file.truncate(content)
    else:
        np.savez(path, **content)
    frames = EventFrames(samples, [2, 3], T, SIZE)
    with pytest.raises(ValueError, match=rf"2.npz is damaged \(.*{reason}.*process.py makes it an"):
        frames[0]
    assert frames.problem(0).startswith(f"{path}: ") and frames.problem(1) is None


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float16, ">f4"])
def test_whole_numbers_of_every_type_are_counts(samples, dtype):
    np.savez(samples[2][0], frames=COUNTS.astype(dtype))
    frames, _ = EventFrames(samples, [2], T, SIZE)[0]
    torch.testing.assert_close(frames, torch.ones_like(frames))


STRANGERS = (
    *(".ipynb_checkpoints/0.npz", "__MACOSX/cat/0.npz", "new folder/0.npz", "0.npz"),
    *("cat/._0.npz", "cat/.ipynb_checkpoints/0.npz", "cat/notes.txt"),
)


def test_strangers_are_no_classes_and_no_samples(samples, tmp_path):
    for name in STRANGERS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(samples[0][0], tmp_path / name)
    (tmp_path / "dog" / "3.npz").rename(tmp_path / "dog" / "3.NPZ")
    found = list_samples(tmp_path, ("cat", "dog"))
    assert [(path.lower(), label) for path, label in found] == [
        (path.lower(), label) for path, label in samples
    ]
