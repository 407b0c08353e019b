"""archive: N-MNIST and DVS128 Gesture from archives in their true formats."""

import hashlib
import io
import shutil
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from spikingjelly import datasets

from experiment.dvs.prepare import prepare
from experiment.dvs.process import load_event_data
from experiment.dvs.recording.source import SOURCES, locate
from tests.support.event_files import Event, count_events, random_events
from tests.support.rights import open_folder, rights

T = 5


def atis(events: list[Event]) -> bytes:
    """N-MNIST's five bytes per event: column, row, polarity with the 23 bits of the time."""
    return b"".join(
        bytes([column, row]) + (on << 23 | time & 0x7FFFFF).to_bytes(3, "big")
        for time, column, row, on in events
    )


def aedat3(events: list[Event]) -> bytes:
    """One packet of polarity events of AEDAT 3.1, little-endian."""
    data = b"".join(
        struct.pack("<II", column << 17 | row << 2 | on << 1 | 1, time)
        for time, column, row, on in events
    )
    header = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, len(events), len(events), len(events))
    return b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + header + data


def publish(monkeypatch, dataset_class, folder) -> None:
    """Make spikingjelly expect the archives in `folder` in place of the published ones."""
    listed = [
        (name, url, hashlib.md5((folder / name).read_bytes()).hexdigest())
        for name, url, _ in dataset_class.resource_url_md5()
    ]
    monkeypatch.setattr(dataset_class, "resource_url_md5", lambda: listed)


@pytest.fixture
def n_mnist(tmp_path, monkeypatch):
    """Three training samples and one test sample of each digit; (folder, events by name)."""
    monkeypatch.setitem(SOURCES, "NMNIST", SOURCES["NMNIST"]._replace(samples=40))
    events = {}
    (tmp_path / "download").mkdir()
    for part, samples in (("Train", 3), ("Test", 1)):
        with zipfile.ZipFile(tmp_path / "download" / f"{part}.zip", "w") as archive:
            for digit in range(10):
                for number in range(samples):
                    name = f"{part.lower()}/{digit}/{number:05}"
                    events[name] = random_events(50 + len(events), len(events), side=34)
                    archive.writestr(f"{part}/{digit}/{number:05}.bin", atis(events[name]))
    publish(monkeypatch, datasets.NMNIST, tmp_path / "download")
    return tmp_path, events


def test_n_mnist_from_its_archives(n_mnist):
    folder, events = n_mnist
    data = load_event_data("NMNIST", folder, T=T)
    assert (data.split, len(data.train), len(data.test), len(data.class_names)) == (
        "given",
        30,
        10,
        10,
    )
    for part, samples in (("train", data.train.source), ("test", data.test)):
        for index in range(len(samples)):
            digit, stem = samples.path(index).split("/")[-2:]
            assert samples.labels[index] == int(digit)
            expected = count_events(events[f"{part}/{digit}/{stem[:-4]}"], T, side=34)
            np.testing.assert_array_equal(samples.read(index), expected)
    assert data.test[0][0].shape == (T, 2, 48, 48)


def test_extraction_that_was_cut_short_starts_again(n_mnist, monkeypatch):
    folder, _ = n_mnist
    create = datasets.NMNIST.create_raw_from_extracted

    def interrupted(extract_root, raw_root):
        create(extract_root, raw_root)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(datasets.NMNIST, "create_raw_from_extracted", interrupted)
        prepare(locate("NMNIST", folder), T=T)
    assert not (folder / "events_np").exists()
    prepare(locate("NMNIST", folder), T=T)
    assert len(list((folder / f"frames_number_{T}_split_by_number").rglob("*.npz"))) == 40
    assert not (folder / "events_np.incomplete").exists()


def test_of_a_read_only_folder_events_and_frames_go_to_a_cache(n_mnist):
    with open_folder() as place:
        shutil.copytree(n_mnist[0], place / "data")
        with rights(place / "data", 0o555):
            with pytest.raises(ValueError, match=r"events_np and frames_.* --cache_path"):
                load_event_data("NMNIST", place / "data", T=T)
            data = load_event_data("NMNIST", place / "data", T=T, cache_path=place / "cache")
        assert len(data.train) == 30 and data.sensor_size == (34, 34)
        assert len(list((place / "cache" / "NMNIST" / "events_np").rglob("*.npz"))) == 40
        assert [path.name for path in (place / "data").iterdir()] == ["download"]


def test_a_missing_a_damaged_and_a_half_unpacked_archive(n_mnist):
    folder, _ = n_mnist
    place, archive = locate("NMNIST", folder), folder / "download" / "Test.zip"
    content = archive.read_bytes()
    archive.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"Test.zip is damaged \(wrong md5 sum\)"):
        prepare(place, T=T)
    assert archive.read_bytes() == content[:-1], "the user's file must not be deleted"
    archive.unlink()
    with pytest.raises(FileNotFoundError, match=r"put Test.zip from https://www.garrickorchard"):
        prepare(place, T=T)
    (folder / "events_np").mkdir()
    (folder / "events_np.building").touch()
    with pytest.raises(ValueError, match=r"spikingjelly was interrupted .*/events_np"):
        prepare(place, T=T)
    assert (folder / "events_np").is_dir()


def test_dvs128_gesture_from_its_archive(tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "DVS128Gesture", SOURCES["DVS128Gesture"]._replace(samples=22))
    length = 40  # events of a gesture; the clock ticks once per event
    members, expected = {}, {}
    for part, user in (("train", "user01_led"), ("test", "user24_led")):
        places = [event[1:] for event in random_events(11 * length, seed=len(part))]
        events = [(time, *place) for time, place in enumerate(places)]
        rows = [f"{k + 1},{k * length},{(k + 1) * length}" for k in range(11)]
        members[f"{user}.aedat"] = aedat3(events)
        members[f"{user}_labels.csv"] = "\n".join(["class,startTime_usec,endTime_usec", *rows])
        members[f"trials_to_{part}.txt"] = f"{user}.aedat\n"
        for k in range(11):
            sample = events[k * length : (k + 1) * length]
            expected[part, str(k)] = count_events(sample, T)
    with tarfile.open(tmp_path / "DvsGesture.tar.gz", "w:gz") as archive:
        for name, content in members.items():
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(f"DvsGesture/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    for name in ("gesture_mapping.csv", "LICENSE.txt", "README.txt"):
        (tmp_path / name).write_text(name)
    publish(monkeypatch, datasets.DVS128Gesture, tmp_path)
    data = load_event_data("DVS128Gesture", tmp_path, T=T)
    assert (len(data.train), len(data.test), len(data.class_names)) == (11, 11, 11)
    for part, samples in (("train", data.train.source), ("test", data.test)):
        for index, label in enumerate(samples.labels):
            wanted = expected[part, data.class_names[label]]
            np.testing.assert_array_equal(samples.read(index), wanted)
