"""aedat3: AEDAT 3.1 byte by byte, against spikingjelly's reader and by hand."""

import struct

import numpy as np
import pytest
from spikingjelly import datasets

from experiment.dvs.recording.aedat import decode_aedat
from experiment.dvs.recording.aedat3 import decode_aedat3
from tests.support.event_files import aedat3, random_events

HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n%s#Start-Time: 2017-01-01 10:00:00\r\n#!END-HEADER\r\n"


def packet(data, count, *, kind=1, size=8, time_at=4, overflow=0, room=None):
    room = count if room is None else room
    head = struct.pack("<HHIIIIII", kind, 1, size, time_at, overflow, room, count, count)
    return head + data.ljust(room * size, b"\0")


def test_one_event_by_hand():
    """Column in bits 17-31, row in 2-16, ON in 1, valid in 0; the packet has the time's bit 31."""
    data = struct.pack("<II", 345 << 17 | 259 << 2 | 0b11, 7)
    content = HEADER % b"#Source 1: DAVIS346B\r\n" + packet(data, 1, overflow=1)
    events, left_out, sensor = decode_aedat3(content)
    assert tuple(field.item() for field in events) == (2**31 + 7, 345, 259, 1)
    assert (left_out, sensor) == (0, (260, 346))


def test_it_reads_what_spikingjelly_reads(tmp_path):
    """Several packets, other ones between, of which one has room for more than it holds."""
    parts = [random_events(count, count) for count in (5, 300, 1)]
    other = packet(bytes(range(24)), 2, kind=3, size=12, room=5)
    content = aedat3(*parts[:2]) + other + aedat3(parts[2], header=b"")
    path = tmp_path / "a.aedat"
    path.write_bytes(content)
    expected = datasets.utils.load_aedat_v3(path)
    events, left_out, sensor = decode_aedat(content)
    assert (left_out, sensor) == (0, (128, 128))
    for field, values in events._asdict().items():
        np.testing.assert_array_equal(values, expected[field])
    np.testing.assert_array_equal(np.stack(events, axis=1), np.concatenate(parts))


def test_events_that_are_not_valid_are_left_out_and_counted():
    content = bytearray(aedat3(random_events(4, 0)))
    content[-16] &= 0xFE
    events, left_out, _ = decode_aedat3(bytes(content))
    np.testing.assert_array_equal(np.stack(events, 1), np.delete(random_events(4, 0), 2, axis=0))
    assert left_out == 1


@pytest.mark.parametrize(
    ("source", "sensor"),
    [
        (b"#Source 1: DVS128\r\n", (128, 128)),
        (b"#-Source 0: DAVIS640\r\n#Source 1: DAVIS240C\r\n", (180, 240)),
        (b"#Source 1: File\r\n", None),
        (b"", None),
    ],
)
def test_the_sensor_is_that_of_the_source_if_it_is_known(source, sensor):
    assert decode_aedat3(HEADER % source).sensor == sensor


def test_a_file_cut_at_any_byte_is_refused_or_loses_whole_packets():
    packets = [aedat3([event], header=b"") for event in random_events(3, 2)]
    content = HEADER % b"" + b"".join(packets)
    ends = {len(content) - done * len(packets[0]): 3 - done for done in range(4)}
    for length in range(len(HEADER % b"") - 3, len(content) + 1):
        if length in ends:
            assert len(decode_aedat(content[:length]).content.t) == ends[length]
        else:
            with pytest.raises(ValueError, match="cut short"):
                decode_aedat(content[:length])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEADER.replace(b"RAW", b"Serial-TS"), "AEDAT 3.1 of format 'Serial-TS': only RAW"),
        (HEADER % b"" + packet(bytes(16), 2, size=0), "a packet of 2 events of 0 bytes"),
        (HEADER % b"" + packet(bytes(8), 2, room=1), "a packet of 2 events of 8 bytes"),
        (HEADER % b"" + packet(bytes(16), 2**31, room=2), "a packet of -2147483648 events"),
        (HEADER % b"" + packet(bytes(24), 2, size=12), "events of 12 bytes, expected 8"),
        (HEADER % b"" + packet(bytes(8), 1) + b"\0" * 28, "a packet of 0 events of 0 bytes"),
    ],
)
def test_what_is_no_such_file_is_refused_with_the_reason(content, reason):
    with pytest.raises(ValueError, match=reason):
        decode_aedat(content)
