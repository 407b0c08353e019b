"""experiment.dvs.simulated: which picture becomes which recording, and what is refused."""

import shutil

import numpy as np
import pytest

from experiment.dvs import simulated
from experiment.dvs.prepare import prepare
from experiment.dvs.process import load_event_data
from experiment.dvs.recordings import recordings
from experiment.dvs.simulate import LOOP_TIME, Sensor, log_intensity, sensor_events
from experiment.dvs.simulated import write_recordings
from experiment.dvs.source import FASHION_IMAGES, SOURCES
from tests.support.data_files import write_mnist_family
from tests.support.rights import open_folder, rights
from util import dataset

CLASSES = ("Ankle boot", "Bag", "Coat", "Dress", "Pullover", "Sandal", "Shirt", "Sneaker",
           "T-shirt", "Trouser")  # fmt: skip
# Of Zalando's labels 0 to 9.
LABELS = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
          "Ankle boot")  # fmt: skip


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """--data_path with a tiny Fashion-MNIST, of which 2 + 1 images per class are taken.

    Returns: the folder, and (images, labels) of "train" and "t10k".
    """
    monkeypatch.setattr(dataset, "PACKAGED_FOLDERS", {})
    monkeypatch.setattr(dataset, "fetch", no_network)
    monkeypatch.setitem(FASHION_IMAGES, "train", 2)
    monkeypatch.setitem(FASHION_IMAGES, "test", 1)
    monkeypatch.setitem(SOURCES, "FashionDVS", SOURCES["FashionDVS"]._replace(samples=30))
    parts = write_mnist_family(tmp_path / "FashionMNIST" / "raw", suffix=".gz")
    return tmp_path, parts


def no_network(*arguments, **options):
    raise OSError("no network here")


def events_of(picture):
    scene = log_intensity(picture)
    return sensor_events(scene, np.linspace(0, LOOP_TIME, len(scene)), Sensor.sample(seed=0))


def stored_recordings(folder):
    """Events by part, class and name, from the archives."""
    return {
        (place.parent.name, place.stem, recording.name): recording.read()[0]
        for place in (folder / "FashionDVS" / "download").glob("*/*.zip")
        for recording in recordings(place)
    }


def test_the_first_images_of_each_class_are_recorded_each_in_its_part(fashion):
    folder, parts = fashion
    prepare("FashionDVS", folder / "FashionDVS", T=3)
    found = stored_recordings(folder)
    assert len(found) == 30
    for (part, class_name, name), events in found.items():
        images, labels = parts["train" if part == "train" else "t10k"]
        index = int(name.removeprefix(f"fashion_{part}_"))
        assert LABELS[labels[index]] == class_name
        assert (labels[:index] == labels[index]).sum() < {"train": 2, "test": 1}[part]
        for field, expected in zip(events, events_of(images[index] / 255), strict=True):
            np.testing.assert_array_equal(field, expected)


def test_training_and_test_samples_are_those_of_the_images(fashion):
    folder, parts = fashion
    data = load_event_data("FashionDVS", folder, T=3, augment=False)
    assert (data.split, len(data.train), len(data.test)) == ("given", 20, 10)
    assert data.class_names == CLASSES
    images, labels = parts["t10k"]
    for index in range(10):
        frames, label = data.test[index]
        path = data.test.source.samples[index][0]
        number = int(path.removesuffix(".npz").rsplit("_", 1)[1])
        assert LABELS[labels[number]] == CLASSES[label]
        with np.load(path) as stored:
            assert stored["frames"].sum() == len(events_of(images[number] / 255).t)
        assert frames.shape == (3, 2, 48, 48)
    assert sorted(data.train.source.labels) == sorted(2 * list(range(10)))


def test_recordings_repeat_and_an_interrupted_call_goes_on(fashion):
    folder, _ = fashion
    target = folder / "FashionDVS"
    write_recordings("FashionDVS", target)
    archives = sorted(target.rglob("*.zip"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in archives}
    lost = target / "download" / "train" / "Dress.zip"
    lost.unlink()
    lines = []
    write_recordings("FashionDVS", target, lines.append)
    assert lines[-1] == "simulating the sensor: 2 of 2, 0 s left"
    for path, (content, time) in before.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == time) == (path != lost)


def test_the_images_are_not_needed_for_another_T(fashion):
    folder, _ = fashion
    prepare("FashionDVS", folder / "FashionDVS", T=2)
    for path in (folder / "FashionMNIST" / "raw").iterdir():
        path.unlink()
    assert len(load_event_data("FashionDVS", folder, T=4).test) == 10


def test_a_read_only_folder_is_left_alone_if_there_is_a_cache(fashion):
    with open_folder() as place:
        folder, cache = place / "data", place / "cache"
        shutil.copytree(fashion[0], folder)
        with rights(folder, 0o555):
            data = load_event_data("FashionDVS", folder, T=3, cache_path=cache)
            assert len(load_event_data("FashionDVS", folder, T=2, cache_path=cache).test) == 10
        assert (len(data.train), len(data.test)) == (20, 10)
        assert [path.name for path in folder.iterdir()] == ["FashionMNIST"]
        assert sorted(path.name for path in (cache / "FashionDVS").iterdir()) == [
            "download", "frames_number_2_split_by_number", "frames_number_3_split_by_number"
        ]  # fmt: skip


def test_a_damaged_recording_is_to_be_deleted(fashion):
    folder, _ = fashion
    write_recordings("FashionDVS", folder / "FashionDVS")
    archive = folder / "FashionDVS" / "download" / "test" / "Bag.zip"
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"1 damaged; delete these files and start again"):
        prepare("FashionDVS", folder / "FashionDVS", T=2)
    archive.unlink()
    prepare("FashionDVS", folder / "FashionDVS", T=2)


def test_missing_images_are_asked_for_with_their_places(fashion):
    folder, _ = fashion
    for path in (folder / "FashionMNIST" / "raw").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        load_event_data("FashionDVS", folder, T=3)
    message = str(error.value)
    assert f"FashionMNIST is not in {folder} (fetching it failed: no network here)" in message
    assert "train-images-idx3-ubyte" in message and "in FashionMNIST/raw" in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert not (folder / "FashionDVS").exists()


def test_too_few_images_of_a_class_are_refused(fashion, monkeypatch):
    folder, _ = fashion
    monkeypatch.setitem(FASHION_IMAGES, "train", 5)
    with pytest.raises(ValueError, match="has 4 images of Dress, expected at least 5"):
        load_event_data("FashionDVS", folder, T=3)


def test_the_table_counts_what_is_made():
    wanted = 10 * (FASHION_IMAGES["train"] + FASHION_IMAGES["test"])
    assert SOURCES["FashionDVS"].samples == wanted == 5_000
    assert {name for name, source in SOURCES.items() if source.simulated} == set(simulated.PICTURES)


def test_digits_are_the_same_each_time_and_an_interrupted_call_goes_on(tmp_path, monkeypatch):
    from sklearn import datasets

    whole = datasets.load_digits()
    keep = np.r_[:13, 1790:1797]  # one of each at least
    for field in ("images", "target"):
        whole[field] = whole[field][keep]
    monkeypatch.setattr(datasets, "load_digits", lambda: whole)
    first, second = tmp_path / "first", tmp_path / "second"
    write_recordings("DigitsDVS", first)
    write_recordings("DigitsDVS", second)
    archives = sorted(path.name for path in (first / "download").iterdir())
    assert archives == [f"{digit}.zip" for digit in range(10)]
    for name in archives:
        assert (first / "download" / name).read_bytes() == (second / "download" / name).read_bytes()

    untouched = (second / "download" / "0.zip").stat().st_mtime_ns
    (second / "download" / "1.zip").unlink()
    write_recordings("DigitsDVS", second)
    assert (second / "download" / "0.zip").stat().st_mtime_ns == untouched
    assert (second / "download" / "1.zip").exists()

    archive = first / "download" / "1.zip"
    found = {recording.name: recording.read()[0] for recording in recordings(archive)}
    assert sorted(found) == sorted(f"digits_1_{i}" for i in np.flatnonzero(whole.target == 1))
    for name, events in found.items():
        expected = events_of(whole.images[int(name.rsplit("_", 1)[1])] / 16)
        for field, value in zip(events, expected, strict=True):
            np.testing.assert_array_equal(field, value)
        assert len(events.t) > 5_000
