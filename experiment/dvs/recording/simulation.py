"""DigitsDVS: scikit-learn's 1,797 handwritten digits, seen by a simulated event camera.

CIFAR10-DVS was made by moving pictures along a closed loop in front of a dynamic vision sensor (Li
et al., "CIFAR10-DVS: An Event-Stream Dataset for Object Classification", Frontiers in
Neuroscience 11:309, 2017). The same is computed here for an ideal sensor of the same 128 x 128
pixels. The recordings are written as CIFAR10-DVS is published, an archive of .aedat files per
class, so that everything behind them is what CIFAR10-DVS goes through.

A pixel of the sensor (Lichtsteiner, Posch and Delbruck, IEEE JSSC 43(2), 2008) holds a level m of
log intensity. While the log intensity L it sees differs from m by at least its threshold theta, it
sends an event, ON if L > m and OFF if L < m, and moves m by theta towards L. Left out: noise
events, the refractory period, the finite bandwidth.

Shapes: S positions of the picture along the loop, H x W pixels of the sensor.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from experiment.dvs.recording.aedat import SIDE, encode_aedat
from experiment.dvs.recording.events import Events
from experiment.dvs.recording.source import DIGITS, Store
from util.file.atomic import write_atomically
from util.process.progress import Countdown

SENSOR_SEED = 0  # one sensor makes all recordings
ENLARGED = 120  # pixels of the sensor that the side of a picture with its rim covers
DARK, BRIGHT = 0.2, 1.0  # intensity of a picture's lowest and highest value
RADIUS = 6  # pixels from the loop's centre to its corners
LOOP_TIME = 200_000  # microseconds for one turn of the loop
THRESHOLD = 0.5  # mean of theta, in log intensity
THRESHOLD_SPREAD = 0.021  # its standard deviation between pixels, as measured in 2008


def write_recordings(store: Store, report: Callable[[str], None] = lambda line: None) -> None:
    """Write download/DIGIT.zip into the cache for every digit that has none in either folder.

    A recording is named by class and position in the data set. An archive depends on nothing but
    its pictures, so an interrupted call can be repeated.
    """
    places = [place / "download" for place in (store.folder, store.cache)]
    missing = [
        digit for digit in DIGITS if not any((place / f"{digit}.zip").exists() for place in places)
    ]
    if not missing:
        return
    from sklearn.datasets import load_digits

    data, sensor = load_digits(), Sensor.sample(seed=SENSOR_SEED)
    chosen = {digit: np.flatnonzero(data.target == int(digit)) for digit in missing}
    countdown = Countdown("simulating the sensor", sum(map(len, chosen.values())), report)
    places[-1].mkdir(parents=True, exist_ok=True)
    for digit, indices in chosen.items():
        content = io.BytesIO()
        with ZipFile(content, "w") as archive:
            for index in indices:
                scene = log_intensity(data.images[index] / 16)
                events = sensor_events(scene, np.linspace(0, LOOP_TIME, len(scene)), sensor)
                member = ZipInfo(f"{digit}/digits_{digit}_{index}.aedat")
                archive.writestr(member, encode_aedat(events), ZIP_DEFLATED, compresslevel=1)
                countdown.advance()
        write_atomically(places[-1] / f"{digit}.zip", content.getvalue())
    countdown.close()


class Sensor(NamedTuple):
    """What differs between the pixels; both arrays are (H, W)."""

    threshold: np.ndarray  # theta, > 0
    phase: np.ndarray  # (m - L) / theta at the start of a recording, between -1 and 1

    @classmethod
    def sample(cls, *, seed: int) -> Sensor:
        """A sensor of 128 x 128 pixels."""
        generator = np.random.default_rng(seed)
        threshold = generator.normal(THRESHOLD, THRESHOLD_SPREAD, (SIDE, SIDE))
        return cls(threshold, generator.uniform(-1, 1, (SIDE, SIDE)))


def closed_loop(radius: int) -> np.ndarray:
    """(4 radius + 1, 2) positions (x, y) on a square standing on its corner, one pixel apart.

    Four straight diagonal legs; the last position is the first again.
    """
    corners = radius * np.array([(-1, 0), (0, -1), (1, 0), (0, 1), (-1, 0)])
    steps = np.repeat(np.sign(np.diff(corners, axis=0)), radius, axis=0)
    return np.cumsum(np.concatenate([corners[:1], steps]), axis=0)


def log_intensity(picture: np.ndarray) -> np.ndarray:
    """What the sensor sees of a square picture (values 0 to 1) along the loop: (S, H, W).

    The picture's side is a divisor of ENLARGED, less two pixels: 8, 28, ...
    """
    import torch
    from torch.nn.functional import interpolate

    # A dark rim makes the outer edges as soft as the inner ones.
    image = torch.from_numpy(np.pad(picture, 1))[None, None]
    assert image.shape[2] == image.shape[3] and ENLARGED % image.shape[2] == 0, picture.shape
    enlarged = interpolate(image, size=(ENLARGED, ENLARGED), mode="bilinear")[0, 0].numpy()
    margin = (SIDE - ENLARGED) // 2 + RADIUS
    scene = np.log(DARK + (BRIGHT - DARK) * np.pad(enlarged, margin))
    views = np.lib.stride_tricks.sliding_window_view(scene, (SIDE, SIDE))
    x, y = (RADIUS - closed_loop(RADIUS)).T  # the picture moves right when the view moves left
    return views[y, x]


def sensor_events(log_intensity: np.ndarray, times: np.ndarray, sensor: Sensor) -> Events:
    """The events of a sensor whose pixels see `log_intensity` (S, H, W), linear between `times`.

    `times` (S,) in microseconds, increasing. Events are sorted by time, then by row and column.
    """
    thresholds = sensor.threshold
    level = log_intensity[0] + sensor.phase * thresholds
    parts = []
    for before, after, start, end in zip(
        log_intensity[:-1], log_intensity[1:], times[:-1], times[1:], strict=True
    ):
        crossings = np.trunc((after - level) / thresholds).astype(int)  # signed, per pixel
        y, x = np.nonzero(crossings)
        pixel = np.repeat(np.arange(len(y)), np.abs(crossings[y, x]))
        y, x = y[pixel], x[pixel]
        first = np.searchsorted(pixel, pixel)
        number = 1 + np.arange(len(pixel)) - first  # 1, 2, ... within each pixel
        sign = np.sign(crossings[y, x])
        crossed = level[y, x] + sign * number * thresholds[y, x]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (crossed - before[y, x]) / (after[y, x] - before[y, x])
        # Rounding can put off an event to the next interval, where the pixel may see no change.
        share = np.nan_to_num(share).clip(0, 1)
        time = np.rint(start + (end - start) * share).astype(int)
        parts.append(np.stack([time, x, y, (sign > 0).astype(int)]))
        level += crossings * thresholds
    t, x, y, p = np.concatenate(parts, axis=1)
    order = np.lexsort((x, y, t))
    return Events(t[order], x[order], y[order], p[order])
