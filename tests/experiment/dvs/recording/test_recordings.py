"""recordings and groups: one list of recordings, wherever they lie, and what is none."""

import zipfile

import numpy as np
import pytest
from spikingjelly import datasets

from experiment.dvs.recording.events import checked_events
from experiment.dvs.recording.groups import find_group, refuse_more_frames_than_events
from experiment.dvs.recording.recordings import Recording, open_arrays, recordings
from tests.support.event_files import (
    aedat2,
    cifar10_dvs_events,
    write_aedat_folders,
    write_archives,
)

EVENTS = {path: events for path, events in cifar10_dvs_events(3).items() if "cat" in path}


def write_arrays(folder, events=EVENTS):
    for path, events_of_one in events.items():
        file = folder / f"{path}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **dict(zip("txyp", np.array(events_of_one).T, strict=True)))


def write_arrays_by_spikingjelly(folder, events):
    write_aedat_folders(folder.with_name("elsewhere"), events)
    folder.mkdir()
    datasets.CIFAR10DVS.create_raw_from_extracted(folder.with_name("elsewhere"), folder)


LAYOUTS = [
    ("download", write_archives),
    (".", write_archives),
    ("extract", write_aedat_folders),
    (".", write_aedat_folders),
    ("events_np", write_arrays),
    ("events_np", write_arrays_by_spikingjelly),
]


@pytest.mark.parametrize(("layout", "write"), LAYOUTS)
def test_every_place_gives_the_same_recordings(tmp_path, layout, write):
    write(tmp_path / layout, EVENTS)
    place = find_group(tmp_path, "cat")
    found = {one.name: (one.place, one.read()[0]) for one in recordings(place)}
    assert list(found) == ["cifar10_cat_0", "cifar10_cat_1", "cifar10_cat_2"]
    for name, (where, events) in found.items():
        np.testing.assert_array_equal(np.stack(events, axis=1), np.array(EVENTS[f"cat/{name}"]))
        in_folder = where.startswith(f"{place}/{name}.")
        assert in_folder if place.is_dir() else where == f"cat/{name}.aedat in {place}"


def test_an_archive_is_preferred_to_what_was_unpacked_from_it(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    assert find_group(tmp_path, "cat") == tmp_path / "extract" / "cat"
    write_archives(tmp_path / "download", EVENTS)
    assert find_group(tmp_path, "cat") == tmp_path / "download" / "cat.zip"
    assert find_group(tmp_path, "dog") is None
    capital = (tmp_path / "download" / "cat.zip").rename(tmp_path / "cat.ZIP")
    assert find_group(tmp_path, "cat") == capital


def test_event_arrays_that_spikingjelly_did_not_finish_are_not_taken(tmp_path):
    write_arrays(tmp_path / "events_np")
    (tmp_path / "events_np.building").touch()
    with pytest.raises(ValueError, match=r"interrupted while it filled .*/events_np, .* delete"):
        find_group(tmp_path, "cat")


def test_shadow_files_of_macos_and_second_copies_are_no_recordings(tmp_path):
    write_archives(tmp_path, EVENTS)
    with zipfile.ZipFile(tmp_path / "cat.zip", "a") as archive:
        archive.writestr("__MACOSX/cat/._cifar10_cat_0.aedat", b"Mac OS X")
        archive.writestr("cat/__MACOSX/cifar10_cat_9.aedat", b"Mac OS X")
        archive.writestr("cat/notes.txt", b"")
        archive.writestr("copy/cifar10_cat_0.aedat", aedat2([]))
    assert len(list(recordings(tmp_path / "cat.zip"))) == 3
    write_aedat_folders(tmp_path / "extract", EVENTS)
    (tmp_path / "extract" / "cat" / "._cifar10_cat_0.aedat").write_bytes(b"Mac OS X")
    assert len(list(recordings(tmp_path / "extract" / "cat"))) == 3


def test_suffixes_in_capitals(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    with zipfile.ZipFile(tmp_path / "dog.zip", "w") as archive:
        archive.writestr("dog/A.AEDAT", aedat2([]))
    write_arrays(tmp_path / "events_np")
    for path in [*tmp_path.rglob("*.aedat"), *tmp_path.rglob("*.npz")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    assert [r.name for r in recordings(find_group(tmp_path, "dog"))] == ["A"]
    assert find_group(tmp_path, "cat") == tmp_path / "extract" / "cat"
    for place in (tmp_path / "extract" / "cat", tmp_path / "events_np" / "cat"):
        assert [r.name[-1] for r in recordings(place)] == ["0", "1", "2"]


def test_only_more_frames_than_any_recording_has_events_are_refused():
    found = [Recording("x", f"place of {most}", None, most) for most in (3, 9, 5)]
    refuse_more_frames_than_events(found, 9)
    with pytest.raises(ValueError, match="T = 10: no recording has so many events, place of 9 at"):
        refuse_more_frames_than_events(found, 10)
    unknown = Recording("x", "", None)  # the size of its file does not say it
    refuse_more_frames_than_events([*found, unknown], 10)


PLAIN = {
    "t": np.array([5, 6, 6]),
    "x": np.array([0, 33, 2]),
    "y": np.array([1, 1, 0]),
    "p": np.array([0, 1, 1]),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_events_of_every_type_of_number(dtype):
    events = checked_events({**PLAIN, "x": PLAIN["x"].astype(dtype), "p": PLAIN["p"].astype(bool)})
    for name, expected in PLAIN.items():
        np.testing.assert_array_equal(getattr(events, name), expected)
    assert {events.x.dtype, events.y.dtype, events.p.dtype} == {np.dtype(np.int64)}
    assert len(checked_events({name: np.array([]) for name in "txyp"}).t) == 0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"p": np.array([-1, 1, 1])}, "array p: values from -1 to 1"),
        ({"p": np.array([1, 2, 2])}, r"array p: values up to 2, expected 0 \(OFF\) and 1 \(ON\)"),
        ({"x": np.array([0, 1e300, 1])}, r"array x: values from 0.0 to 1e\+300"),
        ({"y": np.array([0, 0.5, 1])}, "array y: fractions"),
        ({"y": np.array(["a", "b", "c"])}, "array y: values of type <U1"),
        ({"x": np.array([1, 2])}, "one value per event each"),
        ({name: values[None] for name, values in PLAIN.items()}, "one value per event each"),
    ],
)
def test_arrays_that_hold_no_events_are_refused(changed, reason):
    with pytest.raises(ValueError, match=reason):
        checked_events({**PLAIN, **changed})


def test_a_missing_array_and_a_single_one_are_named(tmp_path):
    with pytest.raises(ValueError, match="no array x, p in it, expected t, x, y and p"):
        checked_events({"t": PLAIN["t"], "y": PLAIN["y"]})
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, PLAIN["t"])
    with pytest.raises(ValueError, match="a single array"):
        open_arrays(tmp_path / "x.npz")
