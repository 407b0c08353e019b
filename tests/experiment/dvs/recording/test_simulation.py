"""simulation: the sensor against the definition of its pixels, the loop, and the recordings."""

import shutil

import numpy as np
import pytest
from sklearn import datasets

from experiment.dvs.prepare import prepare
from experiment.dvs.recording.recordings import recordings
from experiment.dvs.recording.simulation import (
    LOOP_TIME,
    Sensor,
    closed_loop,
    log_intensity,
    sensor_events,
    write_recordings,
)
from experiment.dvs.recording.source import SOURCES, Store
from tests.support.rights import open_folder, rights


@pytest.mark.parametrize(
    ("levels", "phase", "expected"),
    [
        ([0, 1.1], 0, [(23, 1), (45, 1), (68, 1), (91, 1)]),
        ([0, -0.6, -0.6], 0, [(42, 0), (83, 0)]),
        ([0, 0.6, 0.1], 0, [(42, 1), (83, 1), (170, 0)]),  # turning back costs a threshold
        ([0, 0.5, 0.5], -0.5, [(25, 1), (75, 1)]),  # the first crossing is at 0.125
    ],
)
def test_a_pixel_by_hand(levels, phase, expected):
    """A pixel of threshold 0.25 that sees `levels` at times 0, 100, 200, ...: (time, polarity)."""
    sensor = Sensor(np.full((1, 1), 0.25), np.full((1, 1), phase))
    scene = np.array(levels).reshape(-1, 1, 1)
    events = sensor_events(scene, 100.0 * np.arange(len(levels)), sensor)
    assert list(zip(events.t.tolist(), events.p.tolist(), strict=True)) == expected


def test_events_equal_those_of_a_pixel_by_pixel_simulation_in_tiny_steps():
    generator = np.random.default_rng(0)
    scene = generator.normal(0, 0.7, (6, 3, 5))
    sensor = Sensor(generator.uniform(0.2, 0.5, (3, 5)), generator.uniform(-1, 1, (3, 5)))
    times = np.array([0, 1000, 1500, 3000, 3300, 5000.0])
    expected = []
    for row, column in np.ndindex(3, 5):
        theta = sensor.threshold[row, column]
        level = scene[0, row, column] + sensor.phase[row, column] * theta
        for time in range(5001):
            seen = np.interp(time, times, scene[:, row, column])
            while abs(seen - level) >= theta:
                level += np.sign(seen - level) * theta
                expected.append((time, column, row, int(seen > level)))
    events = sensor_events(scene, times, sensor)
    assert len(events.t) == len(expected) > 30
    # the same pixels and signs in each pixel's order, and times within one step
    order = np.lexsort((events.t, events.x, events.y))
    got = np.stack(events)[:, order]
    wanted = np.array(sorted(expected, key=lambda event: (event[2], event[1], event[0]))).T
    np.testing.assert_array_equal(got[1:3], wanted[1:3])
    assert np.abs(got[0] - wanted[0]).max() <= 1
    assert np.all(np.diff(events.t) >= 0)


@pytest.mark.parametrize("radius", [1, 6])
def test_the_loop_is_closed_and_moves_one_pixel_at_a_time(radius):
    loop = closed_loop(radius)
    assert loop.shape == (4 * radius + 1, 2)
    assert (loop[0] == loop[-1]).all()
    assert (np.abs(np.diff(loop, axis=0)) == 1).all()
    assert (np.abs(loop).sum(axis=1) == radius).all()


@pytest.mark.parametrize("side", [8, 28])
def test_the_picture_moves_along_the_loop(side):
    picture = np.zeros((side, side))
    picture[side // 2 - 1, side // 2] = 1
    views = log_intensity(picture)
    brightest = np.array([np.unravel_index(view.argmax(), view.shape)[::-1] for view in views])
    np.testing.assert_array_equal(brightest - brightest[0], closed_loop(6) - closed_loop(6)[0])
    assert views.shape == (25, 128, 128)
    assert views.min() == pytest.approx(np.log(0.2)) and views.max() <= 0


@pytest.mark.parametrize(("side", "pixels"), [(8, 96), (28, 112)])
def test_pictures_and_their_rim_cover_120_pixels(side, pixels):
    """Half of the contrast is seen where the picture ends: 120 side / (side + 2) pixels."""
    lit = log_intensity(np.ones((side, side)))[0] > np.log(0.6)
    assert (lit.any(axis=0).sum(), lit.any(axis=1).sum()) == (pixels, pixels)


@pytest.fixture
def digits(monkeypatch):
    """scikit-learn's data set with 20 digits, one of each at least."""
    whole = datasets.load_digits()
    keep = np.r_[:13, 1790:1797]
    for field in ("images", "target"):
        whole[field] = whole[field][keep]
    monkeypatch.setattr(datasets, "load_digits", lambda: whole)
    return whole


def digits_dvs(folder, cache=None):
    return Store(SOURCES["DigitsDVS"]._replace(samples=20), folder, cache or folder)


def test_every_digit_is_recorded_in_the_archive_of_its_class(digits, tmp_path):
    write_recordings(digits_dvs(tmp_path))
    found = {}
    for archive in (tmp_path / "download").iterdir():
        for recording in recordings(archive):
            found[int(recording.name.rsplit("_", 1)[1])] = recording.read()[0]
            assert recording.name.startswith(f"digits_{archive.stem}_")
    assert len(found) == 20
    for index, events in found.items():
        scene = log_intensity(digits.images[index] / 16)
        times = np.linspace(0, LOOP_TIME, len(scene))
        expected = sensor_events(scene, times, Sensor.sample(seed=0))
        for field, value in zip(events, expected, strict=True):
            np.testing.assert_array_equal(field, value)
        assert len(events.t) > 5_000


def test_recordings_repeat_and_an_interrupted_call_goes_on(digits, tmp_path):
    write_recordings(digits_dvs(tmp_path))
    archives = sorted(tmp_path.rglob("*.zip"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in archives}
    lost = tmp_path / "download" / "3.zip"
    lost.unlink()
    lines = []
    write_recordings(digits_dvs(tmp_path), lines.append)
    count = (digits.target == 3).sum()
    assert lines[-1] == f"simulating the sensor: {count} of {count}, 0 s left"
    for path, (content, time) in before.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == time) == (path != lost)


def test_a_read_only_folder_is_left_alone_if_there_is_a_cache(digits):
    with open_folder() as place:
        folder, cache = place / "data", place / "cache"
        write_recordings(digits_dvs(folder))
        shutil.rmtree(folder / "download")
        with rights(folder, 0o555):
            made = [prepare(digits_dvs(folder, cache), T=T) for T in (2, 3)]
        assert [len(list(frames.rglob("*.npz"))) for frames in made] == [20, 20]
        assert list(folder.iterdir()) == []
        assert sorted(cache.iterdir()) == sorted([cache / "download", *made])


def test_a_damaged_recording_is_to_be_deleted(digits, tmp_path):
    write_recordings(digits_dvs(tmp_path))
    archive = tmp_path / "download" / "4.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"1 damaged; delete these files and start again"):
        prepare(digits_dvs(tmp_path), T=2)
    archive.unlink()
    prepare(digits_dvs(tmp_path), T=2)
