"""archive: N-MNIST and DVS128 Gesture from archives in their true formats."""

import hashlib
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from spikingjelly import datasets

from experiment.dvs.prepare import prepare
from experiment.dvs.process import load_event_data
from experiment.dvs.recording.source import SOURCES, locate
from tests.support.event_files import aedat3, atis, count_events, random_events
from tests.support.rights import open_folder, rights

T = 5


def publish(monkeypatch, dataset_class, folder) -> None:
    """Make spikingjelly expect the archives in `folder` in place of the published ones."""
    listed = [
        (name, url, hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else md5)
        for name, url, md5 in dataset_class.resource_url_md5()
        for path in [folder / name]
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


def gestures():
    """The files of a DVS128 Gesture of 11 samples per part, and the counts of each sample."""
    length = 40  # events of a gesture; the clock ticks once per event
    members, expected = {}, {}
    for part, user in (("train", "user01_led"), ("test", "user24_led")):
        places = [event[1:] for event in random_events(11 * length, seed=len(part))]
        events = [(time, *place) for time, place in enumerate(places)]
        rows = [f"{k + 1},{k * length},{(k + 1) * length}" for k in range(11)]
        members[f"{user}.aedat"] = aedat3(events)
        labels = "\n".join(["class,startTime_usec,endTime_usec", *rows])
        members[f"{user}_labels.csv"] = labels.encode()
        members[f"trials_to_{part}.txt"] = f"{user}.aedat\n".encode()
        for k in range(11):
            sample = events[k * length : (k + 1) * length]
            expected[part, str(k)] = count_events(sample, T)
    return members, expected


@pytest.fixture
def gesture_folder(tmp_path, monkeypatch):
    """(folder with DvsGesture/, what each sample counts)."""
    monkeypatch.setitem(SOURCES, "DVS128Gesture", SOURCES["DVS128Gesture"]._replace(samples=22))
    members, expected = gestures()
    (tmp_path / "DvsGesture").mkdir()
    for name, content in members.items():
        (tmp_path / "DvsGesture" / name).write_bytes(content)
    return tmp_path, expected


def assert_gestures(data, expected):
    assert (len(data.train), len(data.test), len(data.class_names)) == (11, 11, 11)
    for part, samples in (("train", data.train.source), ("test", data.test)):
        for index, label in enumerate(samples.labels):
            wanted = expected[part, data.class_names[label]]
            np.testing.assert_array_equal(samples.read(index), wanted)


def test_dvs128_gesture_from_its_archive_without_the_licence(gesture_folder, monkeypatch):
    folder, expected = gesture_folder
    with tarfile.open(folder / "DvsGesture.tar.gz", "w:gz") as archive:
        archive.add(folder / "DvsGesture", "DvsGesture")
    shutil.rmtree(folder / "DvsGesture")
    publish(monkeypatch, datasets.DVS128Gesture, folder)
    assert_gestures(load_event_data("DVS128Gesture", folder, T=T), expected)


@pytest.mark.parametrize("place", [".", "extract", "DvsGesture"])
def test_dvs128_gesture_from_the_unpacked_folder(gesture_folder, place):
    folder, expected = gesture_folder
    if place == "extract":
        (folder / "extract").mkdir()
        (folder / "DvsGesture").rename(folder / "extract" / "DvsGesture")
        place = "."
    before = {path for path in folder.rglob("*.*") if path.is_file()}
    data = load_event_data("DVS128Gesture", folder / place, T=T, cache_path=folder / "cache")
    assert_gestures(data, expected)
    after = {path for path in folder.rglob("*.*") if path.is_file()}
    assert {p for p in after if "cache" not in p.parts} == before


@pytest.fixture
def unpacked(n_mnist):
    """The small N-MNIST, unpacked and without its archives; (folder, events by name)."""
    folder, events = n_mnist
    for part in ("Train", "Test"):
        with zipfile.ZipFile(folder / "download" / f"{part}.zip") as archive:
            archive.extractall(folder)
    shutil.rmtree(folder / "download")
    return folder, events


def test_n_mnist_from_unpacked_folders_that_strangers_left_files_in(unpacked):
    folder, events = unpacked
    for stranger in ("Train/.DS_Store", "Train/readme.txt", "Train/3/._00000.bin", "Test/3/x.txt"):
        (folder / stranger).write_bytes(b"odd")
    data = load_event_data("NMNIST", folder, T=T)
    assert (len(data.train), len(data.test)) == (30, 10)
    expected = count_events(events[f"test/3/{Path(data.test.path(3)).stem}"], T, side=34)
    np.testing.assert_array_equal(data.test.read(3), expected)


def test_an_unpacked_n_mnist_that_is_damaged_or_not_all_there_is_refused(unpacked):
    folder, _ = unpacked
    place, sample = locate("NMNIST", folder), folder / "Train" / "4" / "00001.bin"
    content = sample.read_bytes()
    sample.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"1 damaged;(.|\n)*4/00001.bin: .* no events of 5 bytes"):
        prepare(place, T=T)
    sample.unlink()
    with pytest.raises(ValueError, match="have 39 recordings of NMNIST, expected 40: complete"):
        prepare(place, T=T)
    shutil.rmtree(folder / "Test")
    with pytest.raises(FileNotFoundError, match=r"put Train.zip .* or the unpacked Train and Test"):
        prepare(place, T=T)
    assert {path.name for path in folder.iterdir()} == {"Train"}


def test_an_unpacked_gesture_that_is_damaged_or_not_all_there_is_refused(gesture_folder):
    folder, _ = gesture_folder
    place = locate("DVS128Gesture", folder)
    recording = folder / "DvsGesture" / "user24_led.aedat"
    labels = folder / "DvsGesture" / "user01_led_labels.csv"
    content = recording.read_bytes()
    recording.write_bytes(content[:-5])
    with pytest.raises(
        ValueError, match=r"1 damaged;(.|\n)*user24_led.aedat: a packet of .* there"
    ):
        prepare(place, T=T)
    recording.write_bytes(content)
    labels.write_text(labels.read_text().rsplit("\n", 1)[0])
    with pytest.raises(ValueError, match=r"DvsGesture have 21 recordings .* expected 22"):
        prepare(place, T=T)
    labels.unlink()
    with pytest.raises(FileNotFoundError, match=r"user01_led_labels.csv' not found: unpack"):
        prepare(place, T=T)
    assert {path.name for path in folder.iterdir()} == {"DvsGesture"}
