"""experiment.dvs.frames: samples as stored, checked when they are read."""

import numpy as np
import pytest
import torch
from spikingjelly.datasets import load_npz_frames
from torchvision.datasets import DatasetFolder

from experiment.dvs.augment import resize
from experiment.dvs.frames import EventFrames

T = 6


@pytest.fixture
def source(tmp_path):
    """Two classes with four samples each."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            counts = generator.integers(0, 300, (T, 2, 16, 16)).astype(np.uint16)
            np.savez(tmp_path / name / f"{number}.npz", frames=counts)
    return DatasetFolder(tmp_path, load_npz_frames, extensions=(".npz",))


def test_samples_are_the_resized_counts_of_the_chosen_indices(source):
    samples = EventFrames(source, [5, 0, 7], T=T)
    assert len(samples) == 3 and samples.labels == [1, 0, 1]
    for position, index in enumerate([5, 0, 7]):
        frames, label = samples[position]
        counts = load_npz_frames(source.samples[index][0])
        assert torch.equal(frames, resize(torch.from_numpy(counts), 48))
        assert frames.shape == (T, 2, 48, 48) and label == samples.labels[position]


def test_shuffled_frames_are_the_same_frames_in_an_order_of_each_sample(source):
    indices = list(range(8))
    plain = EventFrames(source, indices, T=T)
    shuffled = EventFrames(source, indices, T=T, shuffle=True)
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
    EventFrames(source, [0], T=T, shuffle=True)[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_another_number_of_frames_is_refused(source):
    with pytest.raises(ValueError, match=r"0.npz holds .* \(6, 2, 16, 16\), expected 7 frames"):
        EventFrames(source, [0], T=7)[0]


@pytest.mark.parametrize("damage", ["torn", "empty", "other array"])
def test_a_damaged_file_is_named(source, damage):
    path = source.samples[2][0]
    with open(path, "r+b") as file:
        file.truncate({"torn": 700, "empty": 0, "other array": 0}[damage])
    if damage == "other array":
        np.savez(path, counts=np.zeros(3))
    with pytest.raises(ValueError, match=r"2.npz is damaged .*process.py makes it anew"):
        EventFrames(source, [2], T=T)[0]
