"""experiment.dvs.events: the bytes of AEDAT 2.0, against spikingjelly's reader and by hand."""

import numpy as np
import pytest
from spikingjelly.datasets import cifar10_dvs

from experiment.dvs.events import Events, decode_aedat, encode_aedat
from tests.support.event_files import JAER_HEADER, aedat2, random_events


def test_one_event_by_hand():
    # row 3, column 126, ON: 127 - 126 in bits 8-14, 127 - 3 in bits 1-7, bit 0 clear.
    content = b"#!AER-DAT2.0\n" + bytes([0, 0, 1, 2 * 124, 0, 1, 0, 2])
    t, x, y, p = decode_aedat(content)
    assert (t.tolist(), x.tolist(), y.tolist(), p.tolist()) == ([65538], [126], [3], [1])


def test_it_reads_what_spikingjelly_reads(tmp_path):
    events = random_events(701, seed=3)
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat2(events))
    expected = cifar10_dvs._load_origin_data(path)
    decoded = decode_aedat(path.read_bytes())
    for field in Events._fields:
        np.testing.assert_array_equal(getattr(decoded, field), expected[field])
    np.testing.assert_array_equal(np.stack(decoded, axis=1), np.array(events))


def test_times_and_addresses_use_all_of_their_bits():
    # a clock beyond 2^31 microseconds, and the unused upper half of the address set
    content = b"#!AER-DAT2.0\r\n" + bytes([0xFF, 0xFF, 0x80, 0, 0xFF, 0xFF, 0xFF, 0xFF])
    t, x, y, p = decode_aedat(content)
    assert (t[0], x[0], y[0], p[0]) == (2**32 - 1, 127, 127, 1)


@pytest.mark.parametrize("count", [0, 1, 77])
def test_encoding_is_undone_by_decoding(count):
    events = Events(*np.array(random_events(count, seed=1), dtype=int).reshape(count, 4).T)
    for field, again in zip(events, decode_aedat(encode_aedat(events)), strict=True):
        np.testing.assert_array_equal(field, again)


def test_a_file_cut_at_any_byte_is_refused_or_loses_whole_events():
    events = random_events(3, seed=2)
    content = aedat2(events)
    for length in range(len(content)):
        events_there, rest = divmod(length - len(JAER_HEADER), 8)
        if events_there >= 0 and rest == 0:
            assert len(decode_aedat(content[:length]).t) == events_there
        elif events_there >= 0 or content[:length].count(b"\n") == 0:
            with pytest.raises(ValueError):
                decode_aedat(content[:length])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no AEDAT file"),
        (b"<!DOCTYPE html>", "no AEDAT file: it starts with b'<!DOCTYPE ht'"),
        (b"#!AER-DAT3.1\r\n#Format: RAW\r\n", "version b'3.1': expected 2.0"),
        (b"#!AER-DAT2.0\r\n# cut", "header has no end"),
        (b"#!AER-DAT2.0\r\n" + bytes(12), "12 bytes of events are no multiple of 8"),
    ],
)
def test_other_content_is_refused_with_the_reason(content, reason):
    with pytest.raises(ValueError, match=reason):
        decode_aedat(content)
