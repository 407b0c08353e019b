"""experiment.dvs.recordings: one list of recordings, wherever they lie."""

import zipfile

import numpy as np
import pytest
from spikingjelly import datasets

from experiment.dvs.recordings import find_group, recordings
from tests.support.event_files import (
    aedat2,
    cifar10_dvs_events,
    write_aedat_folders,
    write_archives,
)

EVENTS = {path: events for path, events in cifar10_dvs_events(3).items() if "cat" in path}


def write_arrays(folder):
    for path, events in EVENTS.items():
        file = folder / f"{path}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **dict(zip("txyp", np.array(events).T, strict=True)))


LAYOUTS = {
    "download": write_archives,
    ".": write_archives,
    "extract": write_aedat_folders,
    "./.": write_aedat_folders,
    "events_np": lambda folder, _: write_arrays(folder),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_place_gives_the_same_recordings(tmp_path, layout):
    LAYOUTS[layout](tmp_path / layout, EVENTS)
    found = {r.name: r.read()[0] for r in recordings(find_group(tmp_path, "cat"))}
    assert list(found) == ["cifar10_cat_0", "cifar10_cat_1", "cifar10_cat_2"]
    for name, events in found.items():
        np.testing.assert_array_equal(np.stack(events, axis=1), np.array(EVENTS[f"cat/{name}"]))


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


def test_event_arrays_made_by_spikingjelly_equal_the_aedat_files(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    (tmp_path / "events_np").mkdir()
    datasets.CIFAR10DVS.create_raw_from_extracted(tmp_path / "extract", tmp_path / "events_np")
    for made in recordings(tmp_path / "events_np" / "cat"):
        np.testing.assert_array_equal(
            np.stack(made.read()[0], axis=1), np.array(EVENTS[f"cat/{made.name}"])
        )


def test_shadow_files_of_macos_are_no_recordings(tmp_path):
    write_archives(tmp_path, EVENTS)
    with zipfile.ZipFile(tmp_path / "cat.zip", "a") as archive:
        archive.writestr("__MACOSX/cat/._cifar10_cat_0.aedat", b"Mac OS X")
        archive.writestr("cat/__MACOSX/cifar10_cat_9.aedat", b"Mac OS X")
        archive.writestr("cat/notes.txt", b"")
    assert len(list(recordings(tmp_path / "cat.zip"))) == 3
    write_aedat_folders(tmp_path / "extract", EVENTS)
    (tmp_path / "extract" / "cat" / "._cifar10_cat_0.aedat").write_bytes(b"Mac OS X")
    assert len(list(recordings(tmp_path / "extract" / "cat"))) == 3


def test_a_place_names_the_file(tmp_path):
    write_archives(tmp_path, EVENTS)
    first = next(recordings(tmp_path / "cat.zip"))
    assert first.place == f"cat/cifar10_cat_0.aedat in {tmp_path / 'cat.zip'}"
    (tmp_path / "extract" / "cat").mkdir(parents=True)
    path = tmp_path / "extract" / "cat" / "a.aedat"
    path.write_bytes(aedat2([]))
    assert next(recordings(path.parent)).place == str(path)


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
