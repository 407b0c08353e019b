"""experiment.dvs.picture: what is drawn, and that the file is whole."""

import numpy as np
import pytest
from PIL import Image

from experiment.dvs.picture import GAP, colored, draw_event_frames
from experiment.dvs.process import load_event_data
from experiment.dvs.source import SOURCES
from tests.support.event_files import cifar10_dvs_events, write_archives


def test_on_is_red_off_is_blue_both_are_black_none_is_white():
    frames = np.zeros((1, 2, 2, 2), dtype=np.float32)
    frames[0, 1, 0, 0] = frames[0, 0, 0, 1] = 3
    frames[0, :, 1, 0] = 3
    picture = colored(frames)
    assert picture.shape == (1, 2 + GAP, 2 + GAP, 3)
    inside = picture[0, GAP // 2 : GAP // 2 + 2, GAP // 2 : GAP // 2 + 2]
    red, blue, black, white = (1, 0, 0), (0, 0, 1), (0, 0, 0), (1, 1, 1)
    np.testing.assert_array_equal(inside.reshape(4, 3), [red, blue, black, white])


def test_full_colour_is_scaled_to_the_sample_and_an_empty_sample_is_white():
    frames = np.full((2, 2, 3, 3), 40, dtype=np.float32)
    frames[:, 1] = 0
    inside = (slice(None), slice(GAP // 2, GAP // 2 + 3), slice(GAP // 2, GAP // 2 + 3))
    np.testing.assert_array_equal(colored(frames)[inside], np.full((2, 3, 3, 3), (0, 0, 1)))
    np.testing.assert_array_equal(colored(0 * frames)[inside], np.ones((2, 3, 3, 3)))


def test_a_picture_of_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "CIFAR10_DVS", SOURCES["CIFAR10_DVS"]._replace(samples=120))
    write_archives(tmp_path / "download", cifar10_dvs_events(12))
    data = load_event_data("CIFAR10_DVS", tmp_path, T=4, split="tebn")
    path = tmp_path / "frames.png"
    draw_event_frames(data, path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width = pixels.shape[:2]
    assert height > 10 * 48 and width > 4 * 48
    redder, bluer = pixels[..., 0] - pixels[..., 2] > 60, pixels[..., 2] - pixels[..., 0] > 60
    # both colours in each of the ten rows of frames
    for rows in np.array_split(np.arange(int(0.1 * height), int(0.9 * height)), 10):
        assert redder[rows].any() and bluer[rows].any()
    with pytest.raises(OSError, match="could not write"):
        draw_event_frames(data, tmp_path / "nowhere" / "frames.png")
