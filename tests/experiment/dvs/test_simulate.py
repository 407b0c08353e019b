"""experiment.dvs.simulate: the sensor against the definition of its pixels, and the loop."""

import numpy as np
import pytest

from experiment.dvs.simulate import (
    Sensor,
    closed_loop,
    log_intensity,
    sensor_events,
)


def one_pixel(levels: list[float], *, threshold: float, phase: float = 0.0) -> list[tuple]:
    """(time, polarity) of the events of a pixel that sees `levels` at times 0, 100, 200, ..."""
    sensor = Sensor(np.full((1, 1), threshold), np.full((1, 1), phase))
    scene = np.array(levels).reshape(-1, 1, 1)
    events = sensor_events(scene, 100.0 * np.arange(len(levels)), sensor)
    return list(zip(events.t.tolist(), events.p.tolist(), strict=True))


def test_a_ramp_crosses_equally_spaced_thresholds():
    assert one_pixel([0, 1.1], threshold=0.25) == [(23, 1), (45, 1), (68, 1), (91, 1)]
    assert one_pixel([0, -0.6, -0.6], threshold=0.25) == [(42, 0), (83, 0)]


def test_turning_back_costs_a_whole_threshold():
    # up to 0.6 (level 0.5), down to 0.1: 0.25 is crossed; the level stays at 0.25
    assert one_pixel([0, 0.6, 0.1], threshold=0.25) == [(42, 1), (83, 1), (170, 0)]
    assert one_pixel([0, 0.24, -0.24, 0.24], threshold=0.25) == []


def test_the_phase_moves_the_crossings():
    # the level starts at -0.2 or 0.2, so the crossings are at 0.2 and 0.6, or at 0.6 alone
    assert one_pixel([0, 0.8], threshold=0.4, phase=-0.5) == [(25, 1), (75, 1)]
    assert one_pixel([0, 0.8], threshold=0.4, phase=0.5) == [(75, 1)]


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


def test_brighter_is_on_and_darker_is_off():
    assert [p for _, p in one_pixel([0, 1], threshold=0.3)] == [1, 1, 1]
    assert [p for _, p in one_pixel([0, -1], threshold=0.3)] == [0, 0, 0]


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
