"""A small CIFAR10-DVS, N-MNIST and DVS128 Gesture in their true file formats.

Written byte by byte from the formats' descriptions, independently of the code that reads them.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
JAER_HEADER = (
    b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
    b"# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event\r\n"
)
AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
Event = tuple[int, int, int, int]  # time in microseconds, column, row, 1 for ON


def random_events(count: int, seed: int, *, side: int = 128) -> list[Event]:
    """Events at a few places of the sensor, so that some pixels count more than one per frame."""
    generator = np.random.default_rng(seed)
    times = np.sort(generator.integers(0, 1_300_000, count)).tolist()
    columns = generator.choice([0, 5, side // 2, side - 1], count).tolist()
    rows = generator.choice([0, 9, side - 2], count).tolist()
    signs = generator.integers(0, 2, count).tolist()
    return list(zip(times, columns, rows, signs, strict=True))


def aedat2(events: list[Event], header: bytes = JAER_HEADER) -> bytes:
    """The bytes of an AEDAT 2.0 file as CIFAR10-DVS has them."""
    words = []
    for time, column, row, on in events:
        address = 256 * (127 - column) + 2 * (127 - row) + (1 - on)
        words.append(struct.pack(">II", address, time))
    return header + b"".join(words)


def aedat3(*packets: list[Event], header: bytes = AEDAT3_HEADER) -> bytes:
    """The bytes of an AEDAT 3.1 file with these packets of polarity events, little-endian."""
    content = [header]
    for events in packets:
        size = len(events)
        content.append(struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, size, size, size))
        content += [
            struct.pack("<II", column << 17 | row << 2 | on << 1 | 1, time)
            for time, column, row, on in events
        ]
    return b"".join(content)


def atis(events: list[Event]) -> bytes:
    """N-MNIST's five bytes per event: column, row, polarity with the 23 bits of the time."""
    return b"".join(
        bytes([column, row]) + (on << 23 | time & 0x7FFFFF).to_bytes(3, "big")
        for time, column, row, on in events
    )


def as_arrays(events: list[Event]) -> dict[str, np.ndarray]:
    """The arrays t, x, y, p of a .npz file."""
    return dict(zip("txyp", np.array(events).T, strict=True))


def count_events(events: list[Event], T: int, *, side: int = 128) -> np.ndarray:
    """Counts (T, 2, side, side) of T parts of equal length, the last one with the remainder."""
    counts = np.zeros((T, 2, side, side), dtype=int)
    length = len(events) // T
    for position, (_, column, row, on) in enumerate(events):
        counts[min(position // length, T - 1), on, row, column] += 1
    return counts


def cifar10_dvs_events(samples: int = 12) -> dict[str, list[Event]]:
    """The events of every recording, by "CLASS/cifar10_CLASS_NUMBER"."""
    names = [f"{name}/cifar10_{name}_{number}" for name in CLASSES for number in range(samples)]
    return {name: random_events(60 + seed % 37, seed) for seed, name in enumerate(names)}


def write_archives(folder: Path, recordings: dict[str, list[Event]]) -> None:
    """`folder`/CLASS.zip with CLASS/cifar10_CLASS_NUMBER.aedat, as published."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in {path.split("/")[0] for path in recordings}:
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir(name)
            for path, events in recordings.items():
                if path.startswith(f"{name}/"):
                    archive.writestr(f"{path}.aedat", aedat2(events))


def write_aedat_folders(folder: Path, recordings: dict[str, list[Event]]) -> None:
    """`folder`/CLASS/cifar10_CLASS_NUMBER.aedat."""
    for path, events in recordings.items():
        file = folder / f"{path}.aedat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(aedat2(events))
