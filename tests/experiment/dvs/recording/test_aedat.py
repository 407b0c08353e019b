"""aedat: the bytes of AEDAT 2.0, against spikingjelly's reader and by hand."""

import numpy as np
import pytest
from spikingjelly.datasets import cifar10_dvs

from experiment.dvs.recording.aedat import decode_aedat, encode_aedat
from experiment.dvs.recording.events import Events
from tests.support.event_files import JAER_HEADER, aedat2, random_events


@pytest.mark.parametrize(
    ("words", "event"),
    [
        # 127 - 126 in bits 8-14, 127 - 3 in bits 1-7, bit 0 clear
        ([0, 0, 1, 2 * 124, 0, 1, 0, 2], (65538, 126, 3, 1)),
        ([0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF], (2**32 - 1, 127, 127, 1)),
    ],
)
def test_one_event_by_hand(words, event):
    events, left_out, sensor = decode_aedat(b"#!AER-DAT2.0\n" + bytes(words))
    assert tuple(field.item() for field in events) == event and left_out == 0
    assert sensor == (128, 128)


def test_it_reads_what_spikingjelly_reads(tmp_path):
    events = random_events(701, seed=3)
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat2(events))
    expected = cifar10_dvs._load_origin_data(path)
    decoded = decode_aedat(path.read_bytes()).content
    for field in Events._fields:
        np.testing.assert_array_equal(getattr(decoded, field), expected[field])
    np.testing.assert_array_equal(np.stack(decoded, axis=1), np.array(events))


@pytest.mark.parametrize("count", [0, 1, 77])
def test_encoding_is_undone_by_decoding(count):
    events = Events(*np.array(random_events(count, seed=1), dtype=int).reshape(count, 4).T)
    for field, again in zip(events, decode_aedat(encode_aedat(events))[0], strict=True):
        np.testing.assert_array_equal(field, again)


def test_a_file_cut_at_any_byte_is_refused_or_loses_whole_events():
    events = random_events(3, seed=2)
    content = aedat2(events)
    for length in range(len(content)):
        events_there, rest = divmod(length - len(JAER_HEADER), 8)
        if events_there >= 0 and rest == 0:
            assert len(decode_aedat(content[:length])[0].t) == events_there
        elif events_there >= 0 or content[:length].count(b"\n") == 0:
            with pytest.raises(ValueError):
                decode_aedat(content[:length])


def words(addresses, header=b"#!AER-DAT2.0\r\n"):
    times = np.arange(len(addresses))
    return header + np.stack([addresses, times], axis=1).astype(">u4").tobytes()


PIXELS = np.arange(1000) % 2**15  # addresses of the 128 x 128 sensor


@pytest.mark.parametrize(("bit", "count"), [(15, 900), (31, 900), (20, 10)])
def test_events_of_no_pixel_are_left_out_and_counted(bit, count):
    """Special events whatever their number, noise while there is little of it."""
    addresses = PIXELS.copy()
    addresses[-count:] |= 1 << bit
    events, left_out, _ = decode_aedat(words(addresses))
    assert left_out == count
    expected = decode_aedat(words(PIXELS[:-count])).content
    for field, again in zip(events, expected, strict=True):
        np.testing.assert_array_equal(field, again)


HEADER = b"#!AER-DAT2.0\r\n"
DAVIS = 1 << 11 | PIXELS % 180 << 22 | PIXELS % 240 << 12
CAMERA = HEADER + b"# HardwareInterface: %s\r\n# AEChip: %s\r\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no AEDAT file"),
        (b"<!DOCTYPE html>", "no AEDAT file: it starts with b'<!DOCTYPE ht'"),
        (b"#!AER-DAT3.0\r\n#Format: RAW\r\n", r"^AEDAT 3\.0: only .* arrays t, x, y and p"),
        (b"#!AER-DAT4.0\r\n" + bytes(40), r"^AEDAT 4\.0: only versions 2\.0 and 3\.1"),
        (HEADER + b"# cut", "header has no end"),
        (HEADER + bytes(12), "12 bytes of events are no multiple of 8"),
        (words(DAVIS), "99[0-9] of 1,000 events are another camera's, .* DVS128, 128 x 128 pixels"),
        (words(1 << 31 | DAVIS), "99[0-9] of 1,000 events are .* or of its frames"),
        (words(PIXELS, CAMERA % (b"DAVIS FX3 0002", b"null")), "another camera, DAVIS FX3 0002: "),
        (words(PIXELS, CAMERA % (b"null", b"chips.davis.Davis640")), "chips.davis.Davis640"),
        (words(PIXELS, CAMERA % (b"null", b"\xff DVS320")), r"another camera, \\xff DVS320"),
        (words(1 << 15 | PIXELS), "all of its 1,000 events are special ones, of no pixel"),
    ],
)
def test_other_content_and_other_cameras_are_refused_with_the_reason(content, reason):
    with pytest.raises(ValueError, match=reason):
        decode_aedat(content)


def test_a_header_that_names_this_camera_is_read():
    header = CAMERA % (b"DVS128 00000123", b"ch.unizh.ini.jaer.chip.retina.DVS128")
    assert len(decode_aedat(words(PIXELS, header))[0].t) == 1000
