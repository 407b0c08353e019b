"""Recordings to classify come out as training samples do; what cannot be read is refused."""

import zipfile

import numpy as np
import pytest
import torch

from experiment.dvs.recording.aedat import encode_aedat
from experiment.dvs.recording.events import Events
from experiment.trained.part.input_events import read_events

RNG = np.random.default_rng(0)
RECORDED = Events(np.arange(400), *RNG.integers(0, 34, (2, 400)), RNG.integers(0, 2, 400))
FRAMES = np.ones((3, 2, 34, 34), np.uint8)
PLAIN = {"image_size": 5}
FILES = {
    "frames.npz": {"frames": FRAMES},
    "oblong.npz": {"frames": FRAMES[..., :30]},
    "empty.npz": {"frames": FRAMES[..., :0, :]},
    "events.npz": RECORDED._asdict(),
    "minus.npz": RECORDED._replace(x=RECORDED.x - 34)._asdict(),
    "other.npz": {"other": np.zeros(3)},
    "frames.npy": FRAMES,
    "frames5.npy": np.ones((5, 2, 34, 34), np.uint8),
    "few.aedat": encode_aedat(Events(*(np.arange(2) for _ in range(4)))),
    "recording.aedat": encode_aedat(RECORDED),
    "picture.PNG": b"",
}


def known(*size):
    return {**PLAIN, "sensor_size": list(size)}


def write(folder, name, content):
    with (folder / name).open("wb") as file:
        if isinstance(content, dict):
            np.savez(file, **content)
        elif isinstance(content, bytes):
            file.write(content)
        else:
            np.save(file, content)
    return folder / name


UNFIT = [
    ("frames.npz", known(128, 128), "frames of 34x34 pixels, expected 128x128 pixels"),
    ("oblong.npz", PLAIN, "frames of 30x34 pixels, expected square ones"),
    ("empty.npz", PLAIN, r"shape \(3, 2, 0, 34\), expected \(T, 2, height, width\)"),
    ("events.npz", known(20, 20), "events outside of the sensor's 20x20 pixels"),
    ("minus.npz", PLAIN, "array x: values from -34 to "),
    ("other.npz", PLAIN, "arrays other: expected a recording .* or with an array 'frames'"),
    ("frames.npy", known(34, 30), "frames of 34x34 pixels, expected 30x34 pixels"),
    ("frames5.npy", PLAIN, "5 frames, expected 3 or a multiple"),
    ("few.aedat", PLAIN, "2 events, fewer than the 3 frames"),
    ("recording.aedat", known(34, 34), "events of 128x128 pixels, expected 34x34 pixels"),
    ("picture.PNG", PLAIN, "a picture, but the network was trained on events: expected a reco"),
]


@pytest.mark.parametrize("name, description, message", UNFIT)
def test_what_does_not_fit_the_network_is_named(tmp_path, name, description, message):
    with pytest.raises(ValueError, match=message):
        read_events(write(tmp_path, name, FILES[name]), description, 3)


@pytest.mark.parametrize("description", [PLAIN, known(34, 34)])
def test_frames_that_fit_are_resized(tmp_path, description):
    path = write(tmp_path, "frames.npz", FILES["frames.npz"])
    assert read_events(path, description, 3).shape == (3, 2, 5, 5)


def test_event_arrays_are_read_as_the_recording_in_the_order_of_the_file(tmp_path):
    """Whatever the clock says: it may wrap, be set anew, or run backwards."""
    path = write(tmp_path, "X.AEDAT", encode_aedat(RECORDED))
    expected = read_events(path, PLAIN, 3)
    for times in (RECORDED.t, RECORDED.t[::-1], (RECORDED.t + 2**32 - 9) % 2**32):
        events = RECORDED._replace(t=times)
        arrays = write(tmp_path, "x.NPZ", events._asdict())
        assert torch.equal(read_events(arrays, PLAIN, 3), expected)
        assert torch.equal(read_events(arrays, known(128, 128), 3), expected)
        again = write(tmp_path, "again.aedat", encode_aedat(events))
        assert torch.equal(read_events(again, PLAIN, 3), expected)
    assert read_events(arrays, known(34, 34), 3).sum() > 2 * expected.sum()


def test_events_that_are_left_out_are_reported(tmp_path):
    content = bytearray(encode_aedat(RECORDED))
    content[-6] |= 0x80  # bit 15 of the last address
    said = []
    read_events(write(tmp_path, "x.aedat", bytes(content)), PLAIN, 3, said.append)
    assert said == ["1 special events, of no pixel, are left out"]


FOREIGN = [(6, 99, "zip file version"), (8, 1, "encrypted"), (10, 99, "compression method")]


@pytest.mark.parametrize("position, value, reason", FOREIGN)
def test_an_archive_of_another_program_is_a_reason_to_skip_it(tmp_path, position, value, reason):
    path = write(tmp_path, "x.npz", FILES["frames.npz"])
    content = bytearray(path.read_bytes())
    for signature, begin in ((b"PK\3\4", 4), (b"PK\1\2", 6)):  # here and in the directory
        content[content.index(signature) + begin + position - 6] = value
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_events(path, PLAIN, 3)


@pytest.mark.parametrize("shape", ["(3, 2, 4", "(9, 99999999, 99999999), }"])
def test_a_torn_header_and_one_that_promises_too_much_are_reasons_to_skip_a_file(tmp_path, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}\n".encode()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("frames.npy", b"\x93NUMPY\1\0" + bytes([len(header), 0]) + header)
    with pytest.raises(ValueError):
        read_events(tmp_path / "x.npz", PLAIN, 3)
