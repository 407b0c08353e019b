"""Events of a dynamic vision sensor, and the files that CIFAR10-DVS keeps them in (AEDAT 2.0).

A file is some header lines, each from '#' to a line feed, the first naming the version; then two
big-endian 32-bit words per event, its address and its time in microseconds. In the address of the
128 x 128 sensor (jAER's DVS128) bit 0 is the polarity, 0 for ON and 1 for OFF, and bits 1-7 and
8-14 are the position on the chip. Rows and columns here are those of spikingjelly's CIFAR10DVS:
127 - bits 1-7 and 127 - bits 8-14. Bits 15 and 31 mark special events, of no pixel, such as
external triggers; they are left out. The bits between belong to other cameras: those of the DAVIS
family have their positions there, and with bit 31 the words of their frames (APS).

The order of events is that of the file: times are not looked at, since clocks wrap and jump.
"""

from __future__ import annotations

import re

import numpy as np

from experiment.dvs.recording.aedat3 import decode_aedat3
from experiment.dvs.recording.events import Events, Reading

SIDE = 128  # pixels of the sensor, height = width
VERSION_LINE = b"#!AER-DAT"
HEADER = b"#!AER-DAT2.0\r\n"
BYTES_PER_EVENT = 8

SPECIAL = 0x8000_8000  # either of these bits: an event of no pixel
FOREIGN = 0x7FFF_0000  # any of these bits: no address of this sensor
MOST_FOREIGN = 0.01  # of all addresses; more are another camera's, fewer are noise

# What jAER writes about the device; names that it has for this sensor are many.
CAMERA = re.compile(rb"#\s*(?:AEChip|HardwareInterface):\s*(.*)", re.IGNORECASE)
OTHER_CAMERA = re.compile(rb"davis|dvxplorer|prophes|dvs(?!128)\d", re.IGNORECASE)
EXPECTED = f"only those of a DVS128, {SIDE} x {SIDE} pixels, are read"


def decode_aedat(content: bytes) -> Reading:
    """The events of a whole AEDAT file: 2.0 of the 128 x 128 sensor, or 3.1.

    Left out of 2.0 are special events, and addresses of no pixel where they are few.

    Raises: ValueError, without the file's name, if the content is no such file or is cut short.
    """
    if content.startswith(VERSION_LINE + b"3.1"):
        return decode_aedat3(content)
    start = _end_of_header(content)
    if (len(content) - start) % BYTES_PER_EVENT:
        raise ValueError(
            f"{len(content) - start:,} bytes of events are no multiple of {BYTES_PER_EVENT}: "
            "the file is cut short or damaged"
        )
    words = np.frombuffer(content, dtype=">u4", offset=start).reshape(-1, 2).astype(np.int64)
    of_pixels = _addresses_of_pixels(words[:, 0])
    address, time = words[of_pixels].T
    events = Events(
        t=time,
        x=SIDE - 1 - (address >> 8 & SIDE - 1),
        y=SIDE - 1 - (address >> 1 & SIDE - 1),
        p=1 - (address & 1),
    )
    return Reading(events, len(words) - len(address), (SIDE, SIDE))


def encode_aedat(events: Events) -> bytes:
    """The content of an AEDAT 2.0 file that `decode_aedat` reads as `events`."""
    words = np.empty((len(events.t), 2), dtype=">u4")
    words[:, 0] = (SIDE - 1 - events.x) << 8 | (SIDE - 1 - events.y) << 1 | (1 - events.p)
    words[:, 1] = events.t
    return HEADER + words.tobytes()


def _addresses_of_pixels(addresses: np.ndarray) -> np.ndarray:
    """Which addresses are a pixel's, (N,) bool. Raises: ValueError for another camera's."""
    foreign = np.count_nonzero(addresses & FOREIGN)
    if foreign > MOST_FOREIGN * len(addresses):
        raise ValueError(
            f"{foreign:,} of {len(addresses):,} events are another camera's, or of its frames "
            f"(APS): {EXPECTED}"
        )
    of_pixels = addresses & (SPECIAL | FOREIGN) == 0
    if len(addresses) and not of_pixels.any():
        raise ValueError(f"all of its {len(addresses):,} events are special ones, of no pixel")
    return of_pixels


def _end_of_header(content: bytes) -> int:
    """The position of the first event. (Its address starts with a zero byte, never with '#'.)"""
    if not content.startswith(VERSION_LINE):
        raise ValueError(f"no AEDAT file: it starts with {content[:12]!r}, not {VERSION_LINE!r}")
    if not content.startswith(VERSION_LINE + b"2"):
        version = _shown(content[len(VERSION_LINE) :].split(b"\n")[0])
        raise ValueError(
            f"AEDAT {version}: only versions 2.0 and 3.1 are read; convert it, or save its events "
            "as arrays t, x, y and p (0 OFF, 1 ON) of a .npz file"
        )
    end = 0
    while content[end : end + 1] == b"#":
        line_feed = content.find(b"\n", end)
        if line_feed < 0:
            raise ValueError("its header has no end: the file is cut short")
        camera = CAMERA.match(content, end, line_feed)
        if camera and OTHER_CAMERA.search(camera[1]):
            raise ValueError(f"events of another camera, {_shown(camera[1])}: {EXPECTED}")
        end = line_feed + 1
    return end


def _shown(text: bytes) -> str:
    """A part of the header as a message can hold it."""
    return ascii(text.strip()[:40].decode("latin-1"))[1:-1]
