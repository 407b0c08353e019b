"""Events of a dynamic vision sensor, and the files that CIFAR10-DVS keeps them in (AEDAT 2.0).

A file is some header lines, each from '#' to a line feed, the first naming the version; then two
big-endian 32-bit words per event, its address and its time in microseconds. In the address of the
128 x 128 sensor (jAER's DVS128) bit 0 is the polarity, 0 for ON and 1 for OFF, and bits 1-7 and
8-14 are the position on the chip. Rows and columns here are those of spikingjelly's CIFAR10DVS:
127 - bits 1-7 and 127 - bits 8-14.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIDE = 128  # pixels of the sensor, height = width
VERSION_LINE = b"#!AER-DAT"
HEADER = b"#!AER-DAT2.0\r\n"
BYTES_PER_EVENT = 8


class Events(NamedTuple):
    """A recording of N events; all fields are arrays (N,), in the order of the recording."""

    t: np.ndarray  # microseconds
    x: np.ndarray  # column, 0 at the left
    y: np.ndarray  # row, 0 at the top
    p: np.ndarray  # 1 for ON (brighter), 0 for OFF (darker)


def decode_aedat(content: bytes) -> Events:
    """The events of a whole AEDAT 2.0 file of the 128 x 128 sensor.

    Raises: ValueError, without the file's name, if the content is no such file or is cut short.
    """
    start = _end_of_header(content)
    if (len(content) - start) % BYTES_PER_EVENT:
        raise ValueError(
            f"{len(content) - start:,} bytes of events are no multiple of {BYTES_PER_EVENT}: "
            "the file is cut short or damaged"
        )
    words = np.frombuffer(content, dtype=">u4", offset=start).astype(np.int64)
    address, time = words[::2], words[1::2]
    return Events(
        t=time,
        x=SIDE - 1 - (address >> 8 & SIDE - 1),
        y=SIDE - 1 - (address >> 1 & SIDE - 1),
        p=1 - (address & 1),
    )


def encode_aedat(events: Events) -> bytes:
    """The content of an AEDAT 2.0 file that `decode_aedat` reads as `events`."""
    words = np.empty((len(events.t), 2), dtype=">u4")
    words[:, 0] = (SIDE - 1 - events.x) << 8 | (SIDE - 1 - events.y) << 1 | (1 - events.p)
    words[:, 1] = events.t
    return HEADER + words.tobytes()


def _end_of_header(content: bytes) -> int:
    """The position of the first event. (Its address starts with a zero byte, never with '#'.)"""
    if not content.startswith(VERSION_LINE):
        raise ValueError(f"no AEDAT file: it starts with {content[:12]!r}, not {VERSION_LINE!r}")
    if not content.startswith(VERSION_LINE + b"2"):
        version = content[len(VERSION_LINE) :].split(b"\n")[0].strip()
        raise ValueError(f"AEDAT version {version!r}: expected 2.0")
    end = 0
    while content[end : end + 1] == b"#":
        line_feed = content.find(b"\n", end)
        if line_feed < 0:
            raise ValueError("its header has no end: the file is cut short")
        end = line_feed + 1
    return end
