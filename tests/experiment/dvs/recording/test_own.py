"""own, sensor, origin: what a folder of one's own recordings is, and what is none."""

import json
import shutil

import numpy as np
import pytest

from experiment.dvs import process
from experiment.dvs.process import load_event_data
from experiment.dvs.recording.source import SOURCES
from tests.support.event_files import aedat2, aedat3, as_arrays, count_events, random_events

T, SIDE = 4, 20
NAME = "Recordings"


def write(folder, names, side=SIDE):
    """Recordings by name, those with a number for their seed; returns their events."""
    events = {}
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        events[name] = random_events(40 + seed, seed, side=side)
        np.savez(path, **as_arrays(events[name]))
    return events


def numbered(*folders, count=5):
    return [f"{folder}/{number}.npz" for folder in folders for number in range(count)]


def load(folder, **options):
    return load_event_data(NAME, folder, **{"T": T, "augment": False, **options})


def samples_of(data):
    """Every sample's counts, by its name."""
    parts = (data.train.source, data.test)
    return {part.path(i): part.read(i).numpy() for part in parts for i in range(len(part))}


def assert_holds(data, folder, events, side=SIDE):
    found = samples_of(data)
    assert len(found) == len(events)
    for path, counts in found.items():
        (name,) = [name for name in events if path.endswith(f"split_by_number/{name}")]
        np.testing.assert_array_equal(counts, count_events(events[name], T, side=side))


def test_a_folder_per_class_is_split_by_shares(tmp_path, capsys):
    events = write(tmp_path, numbered("a class", "Zebra", count=10))
    data = load(tmp_path)
    assert (data.name, data.split, data.sensor_size) == (NAME, "stratified", (SIDE - 1, SIDE))
    assert data.class_names == ("Zebra", "a class")
    assert sorted(data.test.labels) == [0, 0, 1, 1] and len(data.train) == 16
    assert (
        "sensor: 20x19 pixels, as far as events reach in 20 recordings" in capsys.readouterr().err
    )
    found = samples_of(data)
    for name, each in events.items():
        path = tmp_path / ".frames" / f"frames_number_{T}_split_by_number" / name
        np.testing.assert_array_equal(
            found[str(path)], count_events(each, T, side=SIDE)[..., :-1, :]
        )
    assert sorted(load(tmp_path, test_fraction=0.5).test.labels) == [0] * 5 + [1] * 5


def test_the_command_says_the_split_that_training_has(tmp_path, capsys):
    write(tmp_path, numbered("a", "b", count=10))
    flags = ["--dataset", NAME, "--data_path", tmp_path, "--T", T, "--num_workers", 0]
    process.main([*flags, "--test_fraction", 0.5])
    assert "10 training and 10 test samples" in capsys.readouterr().out


def test_parts_that_are_given_are_kept(tmp_path):
    events = write(tmp_path, [*numbered("train/a", "train/b"), *numbered("test/a", "test/b")])
    data = load(tmp_path, sensor=f"{SIDE}x{SIDE}")
    assert (data.split, len(data.train), len(data.test)) == ("given", 10, 10)
    assert all("/test/" in data.test.path(i) for i in range(10))
    assert_holds(data, tmp_path, events)


FORMATS = {
    "a/0.aedat": aedat2(random_events(50, 0)),
    "a/1.AEDAT": aedat3(random_events(50, 1)),
    "a/deep/er.aedat": aedat3(random_events(50, 2)),
    "b/0.npz": as_arrays(random_events(50, 3)),
    "b/1.npz": {"frames": count_events(random_events(50, 4), T)},
    "b/2.npy": count_events(random_events(48, 5), 2 * T),
}


def write_formats(folder):
    for name, content in FORMATS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            elif isinstance(content, dict):
                np.savez(file, **content)
            else:
                np.save(file, content)


def test_files_of_every_format_lie_side_by_side(tmp_path):
    write_formats(tmp_path)
    for stranger in ("a/._0.aedat", "b/notes.txt", "__MACOSX/x.npz", ".hidden/x.npz"):
        (tmp_path / stranger).parent.mkdir(exist_ok=True)
        (tmp_path / stranger).write_bytes(b"odd")
    data = load(tmp_path, test_fraction=0.34)
    assert data.sensor_size == (128, 128)
    found = {path.rpartition("split_by_number/")[2]: c for path, c in samples_of(data).items()}
    names = ["a/0", "a/1", "a/deep/er", "b/0", "b/1", "b/2"]
    assert sorted(found) == [f"{name}.npz" for name in names]
    for seed, name in enumerate(names[:5]):
        np.testing.assert_array_equal(
            found[f"{name}.npz"], count_events(random_events(50, seed), T)
        )
    # Neighbouring frames are added up: as if the events had been counted in half as many.
    np.testing.assert_array_equal(found["b/2.npz"], count_events(random_events(48, 5), T))


def frames_in(folder):
    """When each file of frames was written, by its recording's name."""
    (frames,) = folder.glob("*number")
    return {str(p.relative_to(frames)): p.stat().st_mtime_ns for p in frames.rglob("*.npz")}


def test_frames_are_made_anew_of_what_has_changed_and_of_nothing_else(tmp_path):
    events = write(tmp_path, numbered("a", "b"))
    load(tmp_path, sensor="20x20")
    before = frames_in(tmp_path / ".frames-20x20")
    load(tmp_path, sensor="20x20")
    assert frames_in(tmp_path / ".frames-20x20") == before
    (tmp_path / "a" / "0.npz").unlink()
    del events["a/0.npz"]
    changed = {
        "a/1.npz": random_events(45, 99, side=SIDE),
        "b/new.npz": random_events(60, 98, side=9),
    }
    for name, each in changed.items():
        np.savez(tmp_path / name, **as_arrays(each))
    data = load(tmp_path, sensor="20x20", test_fraction=0.25)
    assert_holds(data, tmp_path, events | changed)
    after = frames_in(tmp_path / ".frames-20x20")
    assert {name for name, time in after.items() if before.get(name) != time} == set(changed)
    np.savez(tmp_path / "b" / "far.npz", **as_arrays(random_events(50, 5, side=34)))
    assert load(tmp_path, test_fraction=0.25).sensor_size == (33, 34)


def test_a_sensor_that_was_asked_for_is_none_that_files_say(tmp_path):
    """Whatever was asked for before, and frames of either stay as they are."""
    write(tmp_path, numbered("a", "b"))
    asked = load(tmp_path, sensor="40x35")
    for _ in range(2):
        assert load(tmp_path).sensor_size == (SIDE - 1, SIDE)
    assert asked.test.read(0).shape == (T, 2, 35, 40)
    assert {path.name for path in tmp_path.glob(".*")} == {".frames", ".frames-40x35"}


def test_frames_of_an_interrupted_call_are_kept_only_if_they_are_current(tmp_path):
    events = write(tmp_path, numbered("a", "b"))
    load(tmp_path, sensor="20x20")
    frames = tmp_path / ".frames-20x20" / f"frames_number_{T}_split_by_number"
    incomplete = frames.rename(frames.with_name(f"{frames.name}.incomplete"))
    (incomplete / "b" / "4.npz").unlink()
    events["a/0.npz"] = random_events(50, 77, side=SIDE)
    np.savez(tmp_path / "a" / "0.npz", **as_arrays(events["a/0.npz"]))
    assert_holds(load(tmp_path, sensor="20x20"), tmp_path, events)


@pytest.mark.parametrize(
    "content", [None, b"", b"[1, 2]", b'{"sensor": [20, 20]}', b'{"sensor": 1, "files": [2]}']
)
def test_frames_that_do_not_say_of_what_they_are_are_not_taken(tmp_path, content):
    write(tmp_path, numbered("a", "b"))
    load(tmp_path)
    (said,) = tmp_path.rglob("recordings.json")
    said.write_bytes(content) if content is not None else said.unlink()
    with pytest.raises(ValueError, match=r"recordings.json, so its frames .*: delete the folder"):
        load(tmp_path)


def test_two_folders_of_one_name_share_a_cache_and_no_frames(tmp_path):
    for place in ("one", "two"):
        write(tmp_path / place / "data", numbered(f"{place}a", f"{place}b"))
        load(tmp_path / place / "data", cache_path=tmp_path / "cache")
    caches = sorted((tmp_path / "cache" / NAME).iterdir())
    assert [path.name[:5] for path in caches] == ["data-"] * 2
    assert not list(tmp_path.rglob(".frames"))
    with pytest.raises(
        ValueError, match=r"--cache_path .*/one/data lies in the folder of the reco"
    ):
        load(tmp_path / "one" / "data", cache_path=tmp_path / "one" / "data")


TREES = [
    ([], {}, "no class folders"),
    (numbered("a"), {}, "one class folder, 'a', with 5 recordings: expected at least two classes"),
    ([*numbered("a"), "b/x.txt"], {}, r"without any recording in 'b' \(looked for .aedat, .npz"),
    (numbered("x/a", "x/b"), {}, "holds 'x', and the folders inside are 'a', 'b': one level too"),
    (numbered("train/a", "train/b", "test/a"), {}, "one class folder, 'a'"),
    (
        numbered("train/a", "train/b", "test/a", "test/c"),
        {},
        "/train has 2 classes and .*/test has 2, they differ in 'b': expected the same folders",
    ),
    (numbered("train/a", "train/b", "val/a", "val/b"), {}, "has train and 'val': name the test"),
    (numbered("train/a", "test/a", "other/a"), {}, "train and test, and 'other' beside them"),
    ([*numbered("a", "b"), "a/0.aedat"], {}, "has a/0.aedat and a/0.npz: keep one"),
    (numbered("a", "b"), {"split": "given"}, "split 'given' of Recordings: choose from stratified"),
    (
        numbered("a", "b"),
        {"sensor": "10x9"},
        r"10 damaged; replace or (.|\n)*outside of the sensor's",
    ),
    (numbered("a", "b"), {"T": 50}, "10 with fewer events than the 50 frames"),
    ([*numbered("a", "b"), "b/x.aedat4"], {}, r"1 damaged;(.|\n)*x.aedat4: AEDAT 4.0: only"),
    (
        [*numbered("a", count=9), *numbered("b", count=2)],
        {},
        "class 'b' has 2 recordings, of which --test_fraction",
    ),
]


@pytest.mark.parametrize(("names", "options", "message"), TREES)
def test_a_folder_that_is_no_data_set_is_refused_with_the_reason(tmp_path, names, options, message):
    write(tmp_path, [name for name in names if name.endswith(".npz")])
    for name in names:
        if not name.endswith(".npz"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(tmp_path, **options)


def test_several_sensors_and_odd_numbers_of_frames_are_named(tmp_path):
    write_formats(tmp_path)
    with pytest.raises(
        ValueError, match=r"2 of frames that are no multiple of the 3 asked for, .*1"
    ):
        load(tmp_path, T=3)
    shutil.rmtree(tmp_path / ".frames")
    np.savez(tmp_path / "b" / "3.npz", frames=np.ones((T, 2, 6, 5)))
    with pytest.raises(ValueError, match=r"\(a/0.aedat 128x128 pixels, b/3.npz 5x6 pixels\): keep"):
        load(tmp_path)
    events = {**as_arrays(random_events(9, 0)), "x": np.full(9, 40_000)}
    np.savez(tmp_path / "b" / "3.npz", **events)
    with pytest.raises(ValueError, match=r"3.npz: 40001x127 pixels, more than any sensor has"):
        load(tmp_path)
    assert not (tmp_path / ".frames").exists()


def test_mirroring_is_asked_for(tmp_path):
    assert not SOURCES[NAME].flip
    write(tmp_path, numbered("a", "b"))
    for flip in (None, False, True):
        transform = load(tmp_path, augment=True, flip=flip).train.transform
        steps = [type(step).__name__ for step in transform.transforms]
        assert ("RandomHorizontalFlip" in steps) == bool(flip)


def test_the_note_beside_frames_is_json(tmp_path):
    write(tmp_path, numbered("a", "b"))
    load(tmp_path)
    (said,) = tmp_path.rglob("recordings.json")
    content = json.loads(said.read_text())
    assert content["sensor"] == [19, 20] and sorted(content["files"]) == numbered("a", "b")
