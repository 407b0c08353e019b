"""Events in AEDAT 3.1, the format of cAER and of DVS128 Gesture, for cameras of any size.

A file is header lines, from "#!AER-DAT3.1" to "#!END-HEADER", then packets: a header of 28 bytes,
little-endian like all else, and events of one type. A polarity event is two 32-bit words: bit 0
says whether it is valid, bit 1 is the polarity (1 for ON), bits 2-16 are the row and 17-31 the
column, from the upper left; then the low 31 bits of its time in microseconds, whose high bits are
the packet's. Events that are not valid are left out; those of other types (triggers, images, a
gyroscope's) are not events of pixels, and passed over.

https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-3.1.html
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import numpy as np

from experiment.dvs.recording.events import Events, Reading

END = re.compile(rb"^#!END-HEADER\r?\n", re.MULTILINE)
SOURCE = re.compile(rb"^#Source \d+: *(\w+)", re.MULTILINE)
FORMAT = re.compile(rb"^#Format: *([^\r\n]*)", re.MULTILINE)
SENSORS = {  # height and width, by the start of the camera's name
    b"DVS128": (128, 128),
    b"DAVIS128": (128, 128),
    b"DAVIS208": (192, 208),
    b"DAVIS240": (180, 240),
    b"DAVIS346": (260, 346),
    b"DAVIS640": (480, 640),
}

PACKET = struct.Struct("<hhiiiiii")  # type, source, event's bytes, ..., events there may be and are
POLARITY, EVENT_BYTES, TIME_AT = 1, 8, 4
CUT_SHORT = "the file is cut short or damaged"


def decode_aedat3(content: bytes) -> Reading:
    """The polarity events of a whole AEDAT 3.1 file.

    Raises: ValueError, without the file's name, if the content is cut short or damaged.
    """
    end = END.search(content)
    if end is None:
        raise ValueError("its header has no end: the file is cut short")
    header = content[: end.start()]
    layout = FORMAT.search(header)
    if layout and layout[1].strip() != b"RAW":
        raise ValueError(f"AEDAT 3.1 of format {layout[1].decode('latin-1')!r}: only RAW is read")
    parts = [np.empty((3, 0), np.int64), *_packets(content, end.end())]
    words, times, valid = np.concatenate(parts, axis=1)
    kept = valid == 1
    words, times = words[kept], times[kept]
    events = Events(times, x=words >> 17 & 0x7FFF, y=words >> 2 & 0x7FFF, p=words >> 1 & 1)
    return Reading(events, len(kept) - len(words), _sensor(header))


def _packets(content: bytes, start: int) -> Iterator[np.ndarray]:
    """Of each packet of polarity events the words, times and valid marks, (3, N) int64."""
    while start < len(content):
        if start + PACKET.size > len(content):
            raise ValueError(f"{len(content) - start} bytes of a packet's header: {CUT_SHORT}")
        kind, _, size, time_at, overflow, room, count, _ = PACKET.unpack_from(content, start)
        start += PACKET.size
        if size <= 0 or overflow < 0 or not 0 <= count <= room:
            raise ValueError(
                f"a packet of {count} events of {size} bytes at {start:,}: {CUT_SHORT}"
            )
        if start + room * size > len(content):
            raise ValueError(
                f"a packet of {room * size:,} bytes, of which {len(content) - start:,} are there: "
                f"{CUT_SHORT}"
            )
        if kind == POLARITY:
            if (size, time_at) != (EVENT_BYTES, TIME_AT):
                raise ValueError(f"events of {size} bytes, expected {EVENT_BYTES}: {CUT_SHORT}")
            words = np.frombuffer(content, "<u4", 2 * count, start).reshape(-1, 2).astype(np.int64)
            yield np.stack([words[:, 0], words[:, 1] | overflow << 31, words[:, 0] & 1])
        start += room * size


def _sensor(header: bytes) -> tuple[int, int] | None:
    """Height and width of the first camera that the header names, if it is known."""
    source = SOURCE.search(header)
    names = [name for name in SENSORS if source and source[1].upper().startswith(name)]
    return SENSORS[names[0]] if names else None
