"""experiment.dvs.event_data: what is drawn, and that the file is whole."""

import numpy as np
import pytest
from PIL import Image

from experiment.dvs.event_data import GAP, colored, draw_event_frames
from experiment.dvs.process import load_event_data
from experiment.dvs.recording.source import SOURCES
from tests.support.event_files import cifar10_dvs_events, write_archives

RED, BLUE, BLACK, WHITE = (1, 0, 0), (0, 0, 1), (0, 0, 0), (1, 1, 1)


def test_on_is_red_off_is_blue_both_are_black_none_is_white():
    """In full colour at the highest count of the sample."""
    frames = np.zeros((1, 2, 2, 2), dtype=np.float32)
    frames[0, 1, 0, 0] = frames[0, 0, 0, 1] = 3
    frames[0, :, 1, 0] = 3
    inside = slice(GAP // 2, GAP // 2 + 2)
    for factor in (1, 10):
        picture = colored(factor * frames)
        assert picture.shape == (1, 2 + GAP, 2 + GAP, 3)
        found = picture[0, inside, inside].reshape(4, 3)
        np.testing.assert_array_equal(found, [RED, BLUE, BLACK, WHITE])
    assert (colored(0 * frames)[0, inside, inside] == 1).all()


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
