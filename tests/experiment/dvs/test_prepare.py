"""experiment.dvs.prepare: counts against an independent count, interruptions, damaged files."""

import itertools
import multiprocessing
import os
import signal

import numpy as np
import pytest
from spikingjelly import datasets

from experiment.dvs import integrate
from experiment.dvs.prepare import prepare
from experiment.dvs.recording.source import SOURCES, Store
from tests.support.event_files import (
    CLASSES,
    aedat2,
    cifar10_dvs_events,
    count_events,
    random_events,
    write_aedat_folders,
    write_archives,
)
from tests.support.rights import open_folder, rights

SAMPLES = 4  # per class
EVENTS = cifar10_dvs_events(SAMPLES)
NAME = "CIFAR10_DVS"
SOURCE = SOURCES[NAME]._replace(samples=10 * SAMPLES)
FRAMES = "frames_number_10_split_by_number"
HTML = b"<html>not found</html>"


def prepared(folder, T=10, cache=None, **options):
    return prepare(Store(SOURCE, folder, cache or folder), T=T, **options)


@pytest.fixture
def archives(tmp_path):
    write_archives(tmp_path / "download", EVENTS)
    return tmp_path


@pytest.fixture
def folders(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    return tmp_path


def stored(folder, T=10):
    frames = folder / f"frames_number_{T}_split_by_number"
    return {str(path.relative_to(frames))[:-4]: path for path in frames.rglob("*.npz")}


def times(paths):
    return {path.name: path.stat().st_mtime_ns for path in paths}


def assert_all_counts(folder, T=10):
    paths = stored(folder, T)
    assert paths.keys() == EVENTS.keys()
    for name, path in paths.items():
        expected = count_events(EVENTS[name], T)
        np.testing.assert_array_equal(datasets.load_npz_frames(path), expected)
        assert expected.sum() == len(EVENTS[name])


def test_spikingjelly_makes_the_same_frames_and_reads_ours(archives, tmp_path):
    prepared(archives)
    theirs = tmp_path / "theirs"
    write_aedat_folders(theirs / "extract", EVENTS)
    (theirs / "events_np").mkdir()
    datasets.CIFAR10DVS.create_raw_from_extracted(theirs / "extract", theirs / "events_np")
    options = {"data_type": "frame", "frames_number": 10, "split_by": "number"}
    expected = datasets.CIFAR10DVS(theirs, **options)
    (archives / "events_np").mkdir()  # spikingjelly asks for it before it reads frames
    ours = datasets.CIFAR10DVS(archives, **options)
    assert ours.classes == expected.classes == list(CLASSES)
    assert len(ours) == len(expected) == len(EVENTS)
    for (frames, label), (frames_too, label_too) in zip(ours, expected, strict=True):
        assert label == label_too and frames.dtype == frames_too.dtype
        np.testing.assert_array_equal(frames, frames_too)


def test_each_T_has_its_own_frames_and_finished_ones_are_found_not_made(archives):
    for T in (10, 7, 1):
        prepared(archives, T)
    before = times(stored(archives).values())
    made = prepared(archives, cache=archives / "cache" / NAME)
    assert made == archives / FRAMES and not (archives / "cache").exists()
    for T in (10, 7, 1):
        assert_all_counts(archives, T)
    assert times(stored(archives).values()) == before


def test_lost_frames_are_made_again_and_without_recordings_named(archives):
    prepared(archives)
    stored(archives)["dog/cifar10_dog_2"].unlink()
    prepared(archives)
    assert_all_counts(archives)
    for path in (archives / "download").iterdir():
        path.unlink()
    prepared(archives)  # frames alone are enough
    with pytest.raises(FileNotFoundError, match=f"{FRAMES} cannot replace"):
        prepared(archives, T=16)
    stored(archives)["dog/cifar10_dog_2"].unlink()
    with pytest.raises(FileNotFoundError, match="split_by_number has 39 of 40 samples"):
        prepared(archives)


def prepare_until(moment, folder):
    """Make frames, and die by SIGKILL in the middle of writing those of recording `moment`."""
    written, replace_file = itertools.count(1), os.replace

    def deadly(*names):
        if next(written) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        replace_file(*names)

    os.replace = deadly
    prepared(folder)


def started(*arguments):
    process = multiprocessing.get_context("fork").Process(target=arguments[0], args=arguments[1:])
    process.start()
    return process


def test_killed_at_any_moment_it_goes_on(archives):
    incomplete = archives / f"{FRAMES}.incomplete"
    for moment in (1, 7, 19):
        process = started(prepare_until, moment, archives)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not stored(archives)
        for path in incomplete.rglob("*.npz"):
            expected = count_events(EVENTS[f"{path.parent.name}/{path.stem}"], 10)
            np.testing.assert_array_equal(datasets.load_npz_frames(path), expected)
    kept = times(incomplete.rglob("*.npz"))
    prepared(archives)
    assert_all_counts(archives)
    assert kept.items() <= times(stored(archives).values()).items()
    assert not incomplete.exists()


def test_two_processes_at_once_share_the_result(archives):
    processes = [started(prepared, archives) for _ in range(2)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert_all_counts(archives)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_recordings_are_named_one_by_one_and_the_rest_is_kept(folders, num_workers):
    damage = {
        "bird/cifar10_bird_0": (aedat2(random_events(50, 0))[:-3], "multiple of 8"),
        "dog/cifar10_dog_3": (HTML, "no AEDAT file"),
        "ship/cifar10_ship_1": (aedat2(random_events(0, 0)), "no events"),
        "ship/cifar10_ship_2": (b"", "no AEDAT file"),
    }
    for name, (content, _) in damage.items():
        (folders / "extract" / f"{name}.aedat").write_bytes(content)
    for _ in range(2):  # they are named again
        with pytest.raises(ValueError) as error:
            prepared(folders, num_workers=num_workers)
        first, *lines = str(error.value).splitlines()
        assert first.startswith("4 damaged; fetch these files again") and len(lines) == 4
        for line, (name, (_, reason)) in zip(sorted(lines), damage.items(), strict=True):
            assert f"extract/{name}.aedat: " in line and reason in line
        assert not stored(folders)
        assert len(list((folders / f"{FRAMES}.incomplete").rglob("*.npz"))) == 36
    write_aedat_folders(folders / "extract", {name: EVENTS[name] for name in damage})
    prepared(folders, num_workers=num_workers)
    assert_all_counts(folders)


def test_too_many_frames_are_one_sentence(folders):
    """Whatever the number of recordings that have too few events; damaged ones are apart."""
    for name, content in (("ship_1", aedat2(random_events(9, 0))), ("ship_2", b"")):
        (folders / "extract" / "ship" / f"cifar10_{name}.aedat").write_bytes(content)
    with pytest.raises(ValueError) as error:
        prepared(folders, T=97)
    heading, damaged, short = str(error.value).splitlines()
    assert heading.startswith("1 damaged") and "ship_2" in damaged
    assert short.startswith("39 with fewer events than the 97 frames, ")
    assert "ship_1.aedat with 9: choose --T up to 9, or fetch" in short


def with_one_wrong_bit(archive):
    middle = len(archive) // 3
    return archive[:middle] + bytes([archive[middle] ^ 0xFF]) + archive[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (with_one_wrong_bit, r"cifar10_cat_\d.aedat in .*cat.zip: "),
        (lambda archive: archive[:-30], "cat.zip: File is not a zip file"),
    ],
)
def test_a_damaged_archive_is_named(archives, damage, reason):
    cat = archives / "download" / "cat.zip"
    cat.write_bytes(damage(cat.read_bytes()))
    with pytest.raises(ValueError, match=rf"\d damaged;(.|\n)*{reason}"):
        prepared(archives)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_full_disk_is_no_damage(archives, monkeypatch, num_workers):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(integrate, "write_atomically", full)
    with pytest.raises(OSError, match="No space left") as error:
        prepared(archives, num_workers=num_workers)
    assert "Traceback" not in str(error.value)


def test_it_reports_what_it_needs_how_far_it_is_and_what_it_left_out(folders):
    for name in ("bird/cifar10_bird_0", "dog/cifar10_dog_3"):
        path = folders / "extract" / f"{name}.aedat"
        special = bytes([0, 0, 0x80, 0, 0, 0, 0, 0])
        path.write_bytes(path.read_bytes() + 3 * special)
    lines = []
    prepared(folders, report=lines.append)
    assert_all_counts(folders)
    assert lines[0].startswith("40 recordings to integrate, T = 10; at most 0.0 GB, ")
    assert lines[-2] == "integrating: 40 of 40, 0 s left"
    assert lines[-1] == "6 special events, of no pixel, left out of 2 recordings"


def test_frames_that_were_put_there_or_may_be_torn_are_refused(archives):
    frames = prepared(archives)
    (frames / "cat" / "copy.npz").touch()
    with pytest.raises(ValueError, match="has the frames of 41 samples, expected 40: delete"):
        prepared(archives)
    (archives / f"{FRAMES}.building").touch()
    with pytest.raises(ValueError, match="spikingjelly was interrupted"):
        prepared(archives)


ADDRESSES = {name: url for name, url, _ in datasets.CIFAR10DVS.resource_url_md5()}


@pytest.mark.parametrize(
    ("place", "T", "reason"),
    [
        ("elsewhere", 10, "there is no folder .*elsewhere"),
        ("archives/cat.zip", 10, "cat.zip is a file: it is unpacked by itself, give its folder"),
        ("archives", 10**8, "T = 100,000,000: the frames of one recording take 26,214 GB"),
        ("archives", 5000, r"T = 5,000: no recording .* at most \d+: choose a smaller --T"),
        ("few", 10, r"39 recordings of CIFAR10_DVS, expected 40.*frog: 3"),
        ("gaps", 10, f"put cat.zip from {ADDRESSES['cat.zip']}, truck.zip from [^ ]* into"),
    ],
)
def test_what_is_refused_at_once_leaves_nothing(tmp_path, place, T, reason):
    write_archives(tmp_path / "archives", EVENTS)
    write_aedat_folders(tmp_path / "few" / "extract", EVENTS)
    (tmp_path / "few" / "extract" / "frog" / "cifar10_frog_1.aedat").unlink()
    others = {name: EVENTS[name] for name in EVENTS if name.split("/")[0] not in ("cat", "truck")}
    write_archives(tmp_path / "gaps", others)
    before = set(tmp_path.rglob("*"))
    with pytest.raises((ValueError, FileNotFoundError), match=reason):
        prepared(tmp_path / place, T)
    assert set(tmp_path.rglob("*")) == before


def test_of_a_folder_that_is_read_only_the_frames_go_to_a_cache():
    with open_folder() as place:
        data, cache = place / "data", place / "cache" / NAME
        write_archives(data / "download", EVENTS)
        with rights(data, 0o555):
            with pytest.raises(ValueError) as error:
                prepared(data)
            assert str(error.value) == (
                f"{FRAMES} (at most 0.0 GB) would be made in {data}, but nothing can be written in "
                f"{data} (Permission denied): name another folder with --cache_path"
            )
            made = prepared(data, cache=cache)
            assert prepared(data, cache=cache) == made == cache / FRAMES
        assert_all_counts(cache)
        assert [path.name for path in data.iterdir()] == ["download"]
