"""experiment.dvs.process: the data set object and the preparation command."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly import datasets

from experiment.data_description import describe_data, description_in
from experiment.dvs import integrate as integrate_module
from experiment.dvs.augment import resize
from experiment.dvs.prepare import prepare
from experiment.dvs.process import load_event_data, main
from experiment.dvs.source import SOURCES, source_folder
from experiment.dvs.split import split_indices
from tests.support.event_files import (
    CLASSES,
    cifar10_dvs_events,
    count_events,
    write_archives,
)
from tests.support.rights import open_folder, rights
from util.loader import make_loader
from util.sampler import EpochSampler, EvaluationSampler

SAMPLES = 20  # per class
EVENTS = cifar10_dvs_events(SAMPLES)
NAME = "CIFAR10_DVS"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a small CIFAR10-DVS whose frames are ready for T = 10."""
    folder = tmp_path_factory.mktemp("data")
    write_archives(folder / NAME / "download", EVENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, NAME, SOURCES[NAME]._replace(samples=10 * SAMPLES))
        load_event_data(NAME, folder, T=10)
    return folder


@pytest.fixture(autouse=True)
def small_data_set(monkeypatch):
    monkeypatch.setitem(SOURCES, NAME, SOURCES[NAME]._replace(samples=10 * SAMPLES))


@pytest.mark.parametrize("split", ["published", "tebn"])
def test_each_sample_is_the_resized_count_of_its_recording(prepared, split):
    data = load_event_data(NAME, prepared, T=10, split=split, augment=False)
    assert (data.name, data.split, data.T, data.channels) == (NAME, split, 10, 2)
    assert data.class_names == CLASSES and data.num_classes == 10 and data.image_size == 48
    assert data.validation is None
    order = [(f"{name}.npz", CLASSES.index(name.split("/")[0])) for name in sorted(EVENTS)]
    train, test = split_indices(split, order)
    assert len(data.train) == len(train) == 180 and len(data.test) == len(test) == 20
    for items, chosen in (
        ([data.train[0, i] for i in range(180)], train),
        ([data.test[i] for i in range(20)], test),
    ):
        for (frames, label), number in zip(items, chosen, strict=True):
            name = order[number][0][:-4]
            counts = torch.from_numpy(count_events(EVENTS[name], 10)).float()
            assert label == order[number][1]
            torch.testing.assert_close(frames, resize(counts, 48))


def test_the_sensors_size_travels_with_the_network(prepared):
    described = describe_data(load_event_data(NAME, prepared, T=10))
    assert described.sensor_size == (128, 128) and described.kind == "events"
    assert description_in({"data": described.plain()}) == described


def test_training_samples_are_augmented_by_seed_epoch_and_index(prepared):
    data = load_event_data(NAME, prepared, T=10, seed=1)
    plain = load_event_data(NAME, prepared, T=10, augment=False)
    frames, label = data.train[3, 7]
    torch.rand(5)
    assert torch.equal(frames, data.train[3, 7][0]) and label == plain.train[3, 7][1]
    changed = [not torch.equal(data.train[0, i][0], plain.train[0, i][0]) for i in range(30)]
    assert sum(changed) > 25
    assert any(not torch.equal(data.train[0, i][0], data.train[1, i][0]) for i in range(5))
    other_seed = load_event_data(NAME, prepared, T=10, seed=2)
    assert any(not torch.equal(data.train[0, i][0], other_seed.train[0, i][0]) for i in range(5))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_become_the_networks_input(prepared, num_workers):
    data = load_event_data(NAME, prepared, T=10)
    samplers = {
        data.train: EpochSampler(len(data.train), seed=0, shuffle=True),
        data.test: EvaluationSampler(len(data.test)),
    }
    for dataset, sampler in samplers.items():
        loader = make_loader(
            dataset, batch_size=7, sampler=sampler, num_workers=num_workers, device="cpu"
        )
        frames, labels = next(iter(loader))
        assert frames.shape == (7, 10, 2, 48, 48) and labels.shape == (7,)
        x = data.to_input(frames)
        assert x.shape == (10, 7, 2, 48, 48) and x.dtype == torch.float32 and x.is_contiguous()
        for t in range(10):
            assert torch.equal(x[t], frames[:, t])


def test_a_data_set_travels_to_a_spawned_worker(prepared):
    data = load_event_data(NAME, prepared, T=10)
    again = pickle.loads(pickle.dumps(data.train))
    assert torch.equal(again[2, 5][0], data.train[2, 5][0])


def test_validation_samples_leave_the_training_set(prepared):
    whole = load_event_data(NAME, prepared, T=10)
    data = load_event_data(NAME, prepared, T=10, validation_fraction=0.2)
    assert len(data.validation) == 36 and len(data.train) == 144 and len(data.test) == 20
    rest, held_out = set(data.train.source.indices), set(data.validation.indices)
    assert rest.isdisjoint(held_out) and rest | held_out == set(whole.train.source.indices)
    other = load_event_data(NAME, prepared, T=10, validation_fraction=0.2, split_seed=1)
    assert set(other.validation.indices) != held_out
    same = load_event_data(NAME, prepared, T=10, validation_fraction=0.2, seed=5)
    assert set(same.validation.indices) == held_out
    for fraction in (0.0, 1.0, 0.01):
        with pytest.raises(ValueError, match=f"fraction {fraction}"):
            load_event_data(NAME, prepared, T=10, validation_fraction=fraction)


def test_shuffled_frames_change_order_in_training_and_test_alike(prepared):
    plain = load_event_data(NAME, prepared, T=10, augment=False)
    shuffled = load_event_data(NAME, prepared, T=10, augment=False, shuffle_frames=True)
    for one, other in (
        (plain.test[3], shuffled.test[3]),
        (plain.train[0, 3], shuffled.train[0, 3]),
    ):
        assert not torch.equal(one[0], other[0])
        torch.testing.assert_close(one[0].sum(0), other[0].sum(0))


def test_mirroring_is_for_classes_that_allow_it(prepared, monkeypatch):
    def flips() -> bool:
        names = [type(step).__name__ for step in load_event_data(
            NAME, prepared, T=10
        ).train.transform.transforms]  # fmt: skip
        return "RandomHorizontalFlip" in names

    assert flips()
    monkeypatch.setitem(SOURCES, NAME, SOURCES[NAME]._replace(flip=False))
    assert not flips()
    assert not SOURCES["DigitsDVS"].flip and not SOURCES["DVS128Gesture"].flip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "CIFAR"}, "unknown data set 'CIFAR': choose from CIFAR10_DVS, DigitsDVS"),
        ({"split": "given"}, "split 'given' of CIFAR10_DVS: choose from published, tebn"),
        ({"T": 0}, "T = 0: expected at least 1 frame"),
    ],
)
def test_wrong_arguments_are_named(prepared, arguments, message):
    arguments = {"name": NAME, "T": 10, **arguments}
    with pytest.raises(ValueError, match=message):
        load_event_data(arguments.pop("name"), prepared, **arguments)


def test_every_row_of_the_table_fits_spikingjellys_class():
    for source in SOURCES.values():
        dataset_class = getattr(datasets, source.spikingjelly_class)
        assert dataset_class.get_H_W() in ((128, 128), (34, 34))
        assert len(set(source.groups)) == len(source.groups)
    archives = [name for name, _, _ in datasets.CIFAR10DVS.resource_url_md5()]
    assert archives == [f"{group}.zip" for group in SOURCES[NAME].groups]


def test_the_command_prepares_draws_and_reports(tmp_path, capsys):
    write_archives(tmp_path, EVENTS)
    picture = tmp_path / "frames.png"
    main(["--data_path", str(tmp_path), "--T", "3", "--picture", str(picture)])
    captured = capsys.readouterr()
    assert "3 frames per sample, split published: 180 training and 20 test" in captured.out
    assert "200 recordings to integrate, T = 3" in captured.err
    assert picture.stat().st_size > 10_000
    frames = np.load(tmp_path / "frames_number_3_split_by_number/cat/cifar10_cat_4.npz")["frames"]
    np.testing.assert_array_equal(frames, count_events(EVENTS["cat/cifar10_cat_4"], 3))


def test_the_commands_exit_codes(tmp_path, capsys, monkeypatch):
    def code(*arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(["--data_path", str(tmp_path), "--num_workers", "0", *arguments])
        return end.value.code

    assert code() == 2 and "put airplane.zip from https://" in capsys.readouterr().err
    assert code("--T", "0") == 2 and "argument --T: expected" in capsys.readouterr().err
    assert code("--dataset", "nothing") == 2
    write_archives(tmp_path, EVENTS)
    (tmp_path / "deer.zip").write_bytes(b"PK")
    assert code() == 2 and "deer.zip: File is not a zip file" in capsys.readouterr().err
    (tmp_path / "deer.zip").unlink()
    write_archives(tmp_path, EVENTS)

    def raiser(error):
        def write(path, content):
            raise error

        return write

    for error, expected in ((OSError(28, "No space left"), 1), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr("experiment.dvs.integrate.write_atomically", raiser(error))
        assert code() == expected
    assert "start again to go on" in capsys.readouterr().err


def refused(capsys, *arguments):
    """The sentence with which the command ends."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    error = capsys.readouterr().err
    assert (end.value.code, error.count("\n")) == (2, 1), error
    return error


def test_what_is_wrong_with_the_flags_is_refused_at_once_and_leaves_nothing(tmp_path, capsys):
    write_archives(tmp_path, EVENTS)
    before = set(tmp_path.rglob("*"))
    for arguments, message in (
        (["--data_path", tmp_path / "cat.zip"], "cat.zip is a file: expected the folder of"),
        (["--data_path", tmp_path, "--cache_path", tmp_path / "cat.zip"], "cat.zip is a file"),
        (["--data_path", tmp_path, "--T", "100000000"], "T = 100,000,000: the frames of one"),
        (["--data_path", tmp_path, "--picture", tmp_path], f"--picture: {tmp_path} is a folder"),
        (["--data_path", tmp_path, "--picture", tmp_path / "no/x.png"],
         f"--picture: there is no folder {tmp_path / 'no'}"),
    ):  # fmt: skip
        assert message in refused(capsys, *arguments)
        assert set(tmp_path.rglob("*")) == before


def test_folders_without_rights_are_named(capsys):
    with open_folder() as place:
        locked = place / "locked"
        locked.mkdir()
        nothing = f"nothing can be written in {locked} (Permission denied)"
        for mode, arguments, message in (
            (0o000, ["--data_path", locked], f"{locked}/CIFAR10_DVS: Permission denied"),
            (0o555, ["--data_path", place, "--picture", locked / "x.png"], f"--picture: {nothing}"),
            (0o555, ["--data_path", locked, "--dataset", "DigitsDVS"],
             "simulated recordings and frames_number_10_split_by_number (at most 0.6 GB) would be "
             f"made in {locked}/DigitsDVS, but {nothing}: name another folder with --cache_path"),
        ):  # fmt: skip
            with rights(locked, mode):
                assert message in refused(capsys, *arguments)
            assert list(locked.iterdir()) == []


def test_it_checks_frames_that_are_there_and_names_all_bad_ones(tmp_path, capsys):
    write_archives(tmp_path, EVENTS)
    flags = ["--data_path", str(tmp_path), "--T", "3"]
    main(flags)
    frames = tmp_path / "frames_number_3_split_by_number"
    content = (frames / "cat/cifar10_cat_4.npz").read_bytes()
    (frames / "cat/cifar10_cat_4.npz").write_bytes(content[:-50])
    np.savez(frames / "dog/cifar10_dog_0.npz", frames=np.full((3, 2, 128, 128), np.nan))
    np.savez(frames / "dog/cifar10_dog_1.npz", frames=np.ones((3, 2, 34, 34)))
    boundless = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9, 99999999, 99999999), }\n"
    with zipfile.ZipFile(frames / "dog/cifar10_dog_2.npz", "w") as archive:
        archive.writestr("frames.npy", b"\x93NUMPY\1\0" + bytes([len(boundless), 0]) + boundless)
    capsys.readouterr()
    for num_workers in ("0", "2"):
        with pytest.raises(SystemExit) as end:
            main([*flags, "--num_workers", num_workers])
        assert end.value.code == 2
        lines = capsys.readouterr().err.splitlines()[-5:]
        assert lines[0].startswith("error: 4 files of frames are damaged; delete them and start")
        for line, (name, reason) in zip(
            sorted(lines[1:]),
            [("cat_4", "not a zip"), ("dog_0", "nan"), ("dog_1", "34 x 34"), ("dog_2", "allocate")],
            strict=True,
        ):  # fmt: skip
            assert f"cifar10_{name}.npz: " in line and reason in line
    for name in ("cat/cifar10_cat_4", *(f"dog/cifar10_dog_{number}" for number in range(3))):
        (frames / f"{name}.npz").unlink()
    main(flags)
    assert (frames / "cat/cifar10_cat_4.npz").read_bytes() == content


def integrate_slowly(folder):
    """The command, in a process group of its own."""
    os.setsid()
    integrate = integrate_module.integrate

    def slow(*arguments, **options):
        time.sleep(0.05)
        return integrate(*arguments, **options)

    integrate_module.integrate = slow
    main(["--data_path", str(folder), "--T", "3", "--num_workers", "2"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_a_signal_ends_it_and_its_processes_and_it_goes_on(tmp_path, number, code):
    write_archives(tmp_path, EVENTS)
    process = multiprocessing.get_context("fork").Process(target=integrate_slowly, args=(tmp_path,))
    process.start()
    incomplete = tmp_path / "frames_number_3_split_by_number.incomplete"
    wait_until(lambda: len(list(incomplete.rglob("*.npz"))) > 3)
    os.killpg(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    wait_until(lambda: group_is_gone(process.pid))
    kept = {path.name: path.stat().st_mtime_ns for path in incomplete.rglob("*.npz")}
    assert 3 < len(kept) < 200
    frames = prepare(NAME, tmp_path, T=3)
    for path in frames.rglob("*.npz"):
        assert path.stat().st_mtime_ns == kept.get(path.name, path.stat().st_mtime_ns)
    assert sorted(path.name for path in tmp_path.glob("*[!p]")) == [frames.name]


def wait_until(reached, seconds=60):
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def group_is_gone(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_folder_of_a_simulated_data_set_may_be_named_itself(tmp_path):
    for path in (tmp_path, tmp_path / "DigitsDVS"):
        assert source_folder("DigitsDVS", path) == tmp_path / "DigitsDVS"


def test_it_runs_as_a_file_from_anywhere(tmp_path):
    command = [sys.executable, str(ROOT / "experiment" / "dvs" / "process.py")]
    result = subprocess.run(
        [*command, "--data_path", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: CIFAR10_DVS in ") and "Traceback" not in result.stderr
