"""experiment.dvs.prepare: counts against an independent count, interruptions, damaged files."""

import itertools
import multiprocessing
import os
import signal

import numpy as np
import pytest
from spikingjelly import datasets

from experiment.dvs import integrate as module
from experiment.dvs.prepare import prepare
from experiment.dvs.source import SOURCES
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


@pytest.fixture(autouse=True)
def small_data_set(monkeypatch):
    monkeypatch.setitem(SOURCES, NAME, SOURCES[NAME]._replace(samples=10 * SAMPLES))


@pytest.fixture
def archives(tmp_path):
    write_archives(tmp_path / "download", EVENTS)
    return tmp_path


def stored(folder, T=10):
    frames = folder / f"frames_number_{T}_split_by_number"
    return {str(path.relative_to(frames))[:-4]: path for path in frames.rglob("*.npz")}


def assert_all_counts(folder, T=10):
    paths = stored(folder, T)
    assert paths.keys() == EVENTS.keys()
    for name, path in paths.items():
        expected = count_events(EVENTS[name], T)
        np.testing.assert_array_equal(datasets.load_npz_frames(path), expected)
        assert expected.sum() == len(EVENTS[name])


@pytest.mark.parametrize("T", [10, 7, 1])
def test_counts_equal_an_independent_count(archives, T):
    prepare(NAME, archives, T=T)
    assert_all_counts(archives, T)


def test_from_folders_as_from_archives(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    prepare(NAME, tmp_path, T=10)
    assert_all_counts(tmp_path)


def test_spikingjelly_makes_the_same_frames_and_reads_ours(archives, tmp_path):
    prepare(NAME, archives, T=10)
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


def test_each_T_has_its_own_folder_and_a_finished_one_is_not_touched(archives):
    prepare(NAME, archives, T=10)
    before = {path: path.stat().st_mtime_ns for path in stored(archives).values()}
    prepare(NAME, archives, T=3)
    prepare(NAME, archives, T=10)
    assert_all_counts(archives, T=3)
    assert {path: path.stat().st_mtime_ns for path in stored(archives).values()} == before


def test_frames_alone_are_enough_but_not_for_another_T(archives):
    prepare(NAME, archives, T=10)
    for path in (archives / "download").iterdir():
        path.unlink()
    prepare(NAME, archives, T=10)
    with pytest.raises(FileNotFoundError, match="frames_number_10_split_by_number cannot replace"):
        prepare(NAME, archives, T=16)
    stored(archives)["dog/cifar10_dog_2"].unlink()
    with pytest.raises(FileNotFoundError, match="split_by_number has 39 of 40 samples"):
        prepare(NAME, archives, T=10)


def test_lost_frames_are_made_again(archives):
    prepare(NAME, archives, T=10)
    stored(archives)["dog/cifar10_dog_2"].unlink()
    prepare(NAME, archives, T=10)
    assert_all_counts(archives)


def prepare_until(moment, folder):
    """Make frames, and die by SIGKILL in the middle of writing those of recording `moment`."""
    written, replace_file = itertools.count(1), os.replace

    def deadly(*names):
        if next(written) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        replace_file(*names)

    os.replace = deadly
    prepare(NAME, folder, T=10)


def test_killed_at_any_moment_it_goes_on(archives):
    incomplete = archives / "frames_number_10_split_by_number.incomplete"
    context = multiprocessing.get_context("fork")
    for moment in (1, 7, 19):
        process = context.Process(target=prepare_until, args=(moment, archives))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not stored(archives)
        for path in incomplete.rglob("*.npz"):
            expected = count_events(EVENTS[f"{path.parent.name}/{path.stem}"], 10)
            np.testing.assert_array_equal(datasets.load_npz_frames(path), expected)
    kept = {path.name: path.stat().st_mtime_ns for path in incomplete.rglob("*.npz")}
    prepare(NAME, archives, T=10)
    assert_all_counts(archives)
    for path in stored(archives).values():
        assert path.stat().st_mtime_ns == kept.get(path.name, path.stat().st_mtime_ns)
    assert not incomplete.exists()


def test_two_processes_at_once_share_the_result(archives):
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=prepare, args=(NAME, archives), kwargs={"T": 10}) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert_all_counts(archives)


def test_missing_archives_are_named_with_their_address(archives):
    (archives / "download" / "cat.zip").unlink()
    (archives / "download" / "truck.zip").unlink()
    with pytest.raises(FileNotFoundError) as error:
        prepare(NAME, archives, T=10)
    text = str(error.value)
    for name, url, _ in datasets.CIFAR10DVS.resource_url_md5():
        assert (f"{name} from {url}" in text) == (name in ("cat.zip", "truck.zip"))
    assert not stored(archives)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        prepare(NAME, tmp_path / "elsewhere", T=10)
    assert not (tmp_path / "elsewhere").exists()


def test_a_recording_that_is_not_there(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    (tmp_path / "extract" / "frog" / "cifar10_frog_1.aedat").unlink()
    with pytest.raises(ValueError, match=r"39 recordings of CIFAR10_DVS, expected 40.*frog: 3"):
        prepare(NAME, tmp_path, T=10)


def test_damaged_recordings_are_named_one_by_one_and_the_rest_is_kept(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    damage = {
        "bird/cifar10_bird_0": (aedat2(random_events(50, 0))[:-3], "multiple of 8"),
        "dog/cifar10_dog_3": (b"<html>not found</html>", "no AEDAT file"),
        "ship/cifar10_ship_1": (aedat2(random_events(0, 0)), "no events"),
        "ship/cifar10_ship_2": (b"", "no AEDAT file"),
    }
    for name, (content, _) in damage.items():
        (tmp_path / "extract" / f"{name}.aedat").write_bytes(content)
    for _ in range(2):  # they are named again
        with pytest.raises(ValueError) as error:
            prepare(NAME, tmp_path, T=10)
        first, *lines = str(error.value).splitlines()
        assert first.startswith("4 damaged") and len(lines) == 4
        for line, (name, (_, reason)) in zip(lines, damage.items(), strict=True):
            assert f"extract/{name}.aedat: " in line and reason in line
        assert not stored(tmp_path)
    write_aedat_folders(tmp_path / "extract", {name: EVENTS[name] for name in damage})
    prepare(NAME, tmp_path, T=10)
    assert_all_counts(tmp_path)


def test_too_many_frames_are_one_sentence(tmp_path):
    """Whatever the number of recordings that have too few events; damaged ones are apart."""
    write_aedat_folders(tmp_path / "extract", EVENTS)
    for name, content in (("ship_1", aedat2(random_events(9, 0))), ("ship_2", b"")):
        (tmp_path / "extract" / "ship" / f"cifar10_{name}.aedat").write_bytes(content)
    with pytest.raises(ValueError) as error:
        prepare(NAME, tmp_path, T=97)
    heading, damaged, short = str(error.value).splitlines()
    assert heading.startswith("1 damaged") and "ship_2" in damaged
    assert short.startswith("39 with fewer events than the 97 frames, ")
    assert "ship_1.aedat with 9: choose --T up to 9, or fetch" in short


def encrypted(archive):
    """The archive with the flag for that set on every file, here and in the directory."""
    for signature, position in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        parts = archive.split(signature)
        marked = [part[: position - 4] + b"\1" + part[position - 3 :] for part in parts[1:]]
        archive = signature.join([parts[0], *marked])
    return archive


def test_a_damaged_member_and_a_torn_archive_are_named(archives):
    cat = archives / "download" / "cat.zip"
    content = bytearray(cat.read_bytes())
    content[len(content) // 3] ^= 0xFF
    cat.write_bytes(content)
    with pytest.raises(ValueError, match=r"1 damaged(.|\n)*cifar10_cat_\d.aedat in .*cat.zip: "):
        prepare(NAME, archives, T=10)
    cat.write_bytes(encrypted(bytes(content)))
    with pytest.raises(ValueError, match=r"1 damaged(.|\n)*aedat' is encrypted, password"):
        prepare(NAME, archives, T=10)
    dog = archives / "download" / "dog.zip"
    dog.write_bytes(dog.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"1 damaged(.|\n)*dog.zip: File is not a zip file"):
        prepare(NAME, archives, T=10)


def test_what_spikingjelly_left_unfinished_is_not_taken_for_whole(archives):
    prepare(NAME, archives, T=10)
    marker = archives / "frames_number_10_split_by_number.building"
    marker.touch()
    with pytest.raises(ValueError, match="spikingjelly was interrupted"):
        prepare(NAME, archives, T=10)


def test_a_full_disk_is_no_damage(archives, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(NAME, archives, T=10)


def test_it_reports_what_it_needs_and_how_far_it_is(archives):
    lines = []
    prepare(NAME, archives, T=10, report=lines.append)
    assert lines[0].startswith("40 recordings to integrate, T = 10; at most 0.0 GB, ")
    assert lines[-1] == "integrating: 40 of 40, 0 s left"


def test_several_processes_make_the_same_frames_and_list_the_same_damage(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    (tmp_path / "extract/dog/cifar10_dog_3.aedat").write_bytes(b"<html>not found</html>")
    for num_workers in (2, 0):
        with pytest.raises(ValueError, match=r"^1 damaged(.|\n)*dog_3.aedat: no AEDAT file"):
            prepare(NAME, tmp_path, T=10, num_workers=num_workers)
        frames = tmp_path / "frames_number_10_split_by_number.incomplete"
        assert len(list(frames.rglob("*.npz"))) == 10 * SAMPLES - 1
    write_aedat_folders(tmp_path / "extract", EVENTS)
    prepare(NAME, tmp_path, T=10, num_workers=3)
    assert_all_counts(tmp_path)


def test_a_disk_that_fills_in_another_process_is_no_damage(archives, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(OSError, match="No space left") as error:
        prepare(NAME, archives, T=10, num_workers=2)
    assert "Traceback" not in str(error.value)


def test_special_events_are_left_out_and_their_number_is_reported_once(tmp_path):
    write_aedat_folders(tmp_path / "extract", EVENTS)
    for name in ("bird/cifar10_bird_0", "dog/cifar10_dog_3"):
        path = tmp_path / "extract" / f"{name}.aedat"
        special = bytes([0, 0, 0x80, 0, 0, 0, 0, 0])
        path.write_bytes(path.read_bytes() + 3 * special)
    lines = []
    prepare(NAME, tmp_path, T=10, report=lines.append)
    assert_all_counts(tmp_path)
    assert lines.count("6 special events, of no pixel, left out of 2 recordings") == 1


def test_strangers_are_no_samples_and_frames_put_there_are_refused(archives):
    prepare(NAME, archives, T=10)
    frames = archives / "frames_number_10_split_by_number"
    for name in (".ipynb_checkpoints/a.npz", "new folder/a.npz", "cat/._a.npz", "a.npz"):
        (frames / name).parent.mkdir(exist_ok=True)
        (frames / name).touch()
    prepare(NAME, archives, T=10)
    (frames / "cat" / "copy.npz").touch()
    with pytest.raises(ValueError, match="has the frames of 41 samples, expected 40: delete"):
        prepare(NAME, archives, T=10)


def test_what_is_refused_at_once_leaves_nothing(archives):
    before = set(archives.rglob("*"))
    for folder, T, reason in (
        (archives, 10**8, "T = 100,000,000: the frames of one recording take 26,214 GB of memory"),
        (archives, 5000, r"T = 5,000: no recording .* at most \d+: choose a smaller --T"),
        (
            archives / "download" / "cat.zip",
            10,
            "cat.zip is a file: expected the folder of",
        ),
    ):
        with pytest.raises(ValueError, match=reason):
            prepare(NAME, folder, T=T)
        assert set(archives.rglob("*")) == before
    (archives / "download" / "cat.zip").unlink()
    with pytest.raises(FileNotFoundError):
        prepare(NAME, archives, T=10)
    assert len(before) == 1 + len(set(archives.rglob("*")))


def test_of_a_folder_that_is_read_only_the_frames_go_to_a_cache():
    with open_folder() as place:
        data, cache = place / "data", place / "cache" / NAME
        write_archives(data / "download", EVENTS)
        with rights(data, 0o555):
            with pytest.raises(ValueError) as error:
                prepare(NAME, data, T=10)
            assert str(error.value) == (
                f"frames_number_10_split_by_number (at most 0.0 GB) would be made in {data}, but "
                f"nothing can be written in {data} (Permission denied): name another folder with "
                "--cache_path"
            )
            made = prepare(NAME, data, T=10, cache=cache)
            assert prepare(NAME, data, T=10, cache=cache) == made
        assert made == cache / "frames_number_10_split_by_number"
        assert_all_counts(cache)
        assert [path.name for path in data.iterdir()] == ["download"]


def test_frames_beside_the_recordings_are_not_made_again_in_a_cache(archives):
    beside = prepare(NAME, archives, T=10)
    assert prepare(NAME, archives, T=10, cache=archives / "cache" / NAME) == beside
    assert not (archives / "cache").exists()
