"""Recordings to classify come out as training samples do; what cannot be read is refused."""

import zipfile

import numpy as np
import pytest
import torch

from experiment.dvs.events import Events, encode_aedat
from experiment.trained.input_events import read_events

PLAIN = {"image_size": 5}


def test_files_that_only_look_like_frames_are_refused_and_can_be_skipped(tmp_path):
    path = tmp_path / "x.npz"
    for content, message in (
        (np.zeros((3, 2, 4, 4)), "a single array, expected a .npz file of arrays with names"),
        ({"other": np.zeros(3)}, "arrays other: expected a recording .* or with an array 'frames'"),
        ({"frames": np.zeros((3, 2, 0, 4))}, r"shape \(3, 2, 0, 4\), expected 3 of 2 channels"),
    ):
        with path.open("wb") as file:
            np.savez(file, **content) if isinstance(content, dict) else np.save(file, content)
        with pytest.raises(ValueError, match=message):
            read_events(path, PLAIN, 3)


def test_a_recording_with_fewer_events_than_frames_is_refused(tmp_path):
    events = Events(*(np.arange(2) for _ in range(4)))
    (tmp_path / "x.aedat").write_bytes(encode_aedat(events))
    assert read_events(tmp_path / "x.aedat", PLAIN, 2).shape == (2, 2, 5, 5)
    with pytest.raises(ValueError, match="2 events, fewer than the 3 frames"):
        read_events(tmp_path / "x.aedat", PLAIN, 3)


RNG = np.random.default_rng(0)
RECORDED = Events(np.arange(400), *RNG.integers(0, 34, (2, 400)), RNG.integers(0, 2, 400))


def known(*size):
    return {**PLAIN, "sensor_size": list(size)}


def test_event_arrays_are_read_as_the_recording_in_the_order_of_the_file(tmp_path):
    """Whatever the clock says: it may wrap, be set anew, or run backwards."""
    (tmp_path / "X.AEDAT").write_bytes(encode_aedat(RECORDED))
    expected = read_events(tmp_path / "X.AEDAT", PLAIN, 3)
    for number, times in enumerate(
        (RECORDED.t, RECORDED.t[::-1], (RECORDED.t + 2**32 - 9) % 2**32)
    ):
        path = tmp_path / f"{number}.NPZ"
        with path.open("wb") as file:
            np.savez(file, **RECORDED._replace(t=times)._asdict())
        assert torch.equal(read_events(path, PLAIN, 3), expected)
        assert torch.equal(read_events(path, known(128, 128), 3), expected)
        (tmp_path / "again.aedat").write_bytes(encode_aedat(RECORDED._replace(t=times)))
        assert torch.equal(read_events(tmp_path / "again.aedat", PLAIN, 3), expected)
    assert read_events(tmp_path / "0.NPZ", known(34, 34), 3).sum() > 2 * expected.sum()


def test_events_that_are_left_out_are_reported(tmp_path):
    content = bytearray(encode_aedat(RECORDED))
    content[-6] |= 0x80  # bit 15 of the last address
    (tmp_path / "x.aedat").write_bytes(content)
    said = []
    read_events(tmp_path / "x.aedat", PLAIN, 3, said.append)
    assert said == ["1 special events, of no pixel, are left out"]


def test_what_does_not_fit_the_network_is_named(tmp_path):
    frames = np.ones((3, 2, 34, 34), np.uint8)
    for name, write in {
        "frames.npz": lambda file: np.savez(file, frames=frames),
        "oblong.npz": lambda file: np.savez(file, frames=frames[..., :30]),
        "negative.npz": lambda file: np.savez(file, frames=-frames.astype(int)),
        "events.npz": lambda file: np.savez(file, **RECORDED._asdict()),
        "minus.npz": lambda file: np.savez(file, **RECORDED._replace(x=RECORDED.x - 34)._asdict()),
        "half.npz": lambda file: np.savez(file, t=RECORDED.t, x=RECORDED.x),
        "frames.npy": lambda file: np.save(file, frames),
        "recording.aedat": lambda file: file.write(encode_aedat(RECORDED)),
        "picture.PNG": lambda file: None,
    }.items():
        with (tmp_path / name).open("wb") as file:
            write(file)
    for name, description, message in (
        ("frames.npz", known(128, 128), "frames of 34 x 34 pixels, expected 128 x 128"),
        ("oblong.npz", PLAIN, "frames of 34 x 30 pixels, expected square ones"),
        ("negative.npz", PLAIN, "values from -1 to -1, expected whole numbers from 0"),
        ("events.npz", known(20, 20), "events outside of the sensor's 20 x 20 pixels"),
        ("minus.npz", PLAIN, "array x: values from -34 to "),
        ("half.npz", PLAIN, "no array y, p in it"),
        ("frames.npy", PLAIN, r"a single array \(.npy\): expected a recording .* AEDAT 2.0"),
        (
            "recording.aedat",
            known(34, 34),
            "a recording of 128 x 128 pixels, .* trained on 34 x 34",
        ),
        ("picture.PNG", PLAIN, "a picture, but the network was trained on events: expected a reco"),
    ):
        with pytest.raises(ValueError, match=message):
            read_events(tmp_path / name, description, 3)
    assert read_events(tmp_path / "frames.npz", known(34, 34), 3).shape == (3, 2, 5, 5)
    assert read_events(tmp_path / "frames.npz", PLAIN, 3).shape == (3, 2, 5, 5)


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [(6, 99, "zip file version"), (8, 1, "encrypted"), (10, 99, "compression method")],
)
def test_an_archive_of_another_program_is_a_reason_to_skip_it(tmp_path, position, value, reason):
    path = tmp_path / "x.npz"
    np.savez(path, frames=np.ones((3, 2, 4, 4)))
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
