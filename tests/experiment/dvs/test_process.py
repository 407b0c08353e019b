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

from experiment.data_description import describe_data, description_in
from experiment.dvs import integrate as integrate_module
from experiment.dvs.augment import resize
from experiment.dvs.process import load_event_data, main
from experiment.dvs.recording.source import SOURCES, locate
from experiment.dvs.split import train_and_test
from tests.support.event_files import CLASSES, cifar10_dvs_events, count_events, write_archives
from tests.support.processes import wait_for
from tests.support.rights import open_folder, rights
from util.training_part import TrainingPart

SAMPLES = 20  # per class
EVENTS = cifar10_dvs_events(SAMPLES)
NAME = "CIFAR10_DVS"
SMALL = SOURCES[NAME]._replace(samples=10 * SAMPLES)
PROGRAM = Path(__file__).parents[3] / "experiment" / "dvs" / "process.py"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a small CIFAR10-DVS whose frames are ready for T = 10."""
    folder = tmp_path_factory.mktemp("data")
    write_archives(folder / NAME / "download", EVENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, NAME, SMALL)
        load_event_data(NAME, folder, T=10)
    return folder


@pytest.fixture(autouse=True)
def small_data_set(monkeypatch):
    monkeypatch.setitem(SOURCES, NAME, SMALL)


@pytest.fixture
def archives(tmp_path):
    write_archives(tmp_path, EVENTS)
    return tmp_path


@pytest.mark.parametrize("split", ["published", "tebn"])
def test_each_sample_is_the_resized_count_of_its_recording(prepared, split):
    data = load_event_data(NAME, prepared, T=10, split=split, augment=False)
    assert (data.name, data.split, data.T, data.channels) == (NAME, split, 10, 2)
    assert data.class_names == CLASSES and data.image_size == 48
    assert data.validation is None
    order = [(f"{name}.npz", CLASSES.index(name.split("/")[0])) for name in sorted(EVENTS)]
    train, test = train_and_test(split, order)
    assert len(data.train) == len(train) == 180 and len(data.test) == len(test) == 20
    items = [data.train[0, i] for i in range(180)] + [data.test[i] for i in range(20)]
    for (frames, label), number in zip(items, [*train, *test], strict=True):
        name = order[number][0][:-4]
        counts = torch.from_numpy(count_events(EVENTS[name], 10)).float()
        assert label == order[number][1]
        torch.testing.assert_close(frames, resize(counts, 48))


def test_a_part_of_the_training_samples_has_its_frames_and_noisy_labels(prepared):
    options = {"T": 10, "augment": False, "validation_fraction": 0.25, "shuffle_frames": True}
    whole = load_event_data(NAME, prepared, **options)
    data = load_event_data(NAME, prepared, **options, part=TrainingPart(3, 0.4, seed=2))
    assert len(data.train) == describe_data(data).training_samples == 30
    assert len(data.notes) == 2
    assert (
        data.validation.labels == whole.validation.labels and data.test.labels == whole.test.labels
    )
    clean = {whole.train[0, i][0].numpy().tobytes(): whole.train[0, i][1] for i in range(135)}
    items = [data.train[0, i] for i in range(30)]
    own = [clean[frames.numpy().tobytes()] for frames, _ in items]
    assert sorted(own) == sorted([*range(10)] * 3)
    assert sum(int(label) != mine for (_, label), mine in zip(items, own, strict=True)) == 12


def test_the_sensors_size_travels_with_the_network(prepared):
    described = describe_data(load_event_data(NAME, prepared, T=10))
    assert described.sensor_size == (128, 128) and described.kind == "events"
    assert description_in({"data": described.plain()}) == described


def test_training_samples_are_augmented_by_the_seed_in_every_process(prepared):
    data = load_event_data(NAME, prepared, T=10, seed=1)
    plain = load_event_data(NAME, prepared, T=10, augment=False)
    other_seed = load_event_data(NAME, prepared, T=10, seed=2)
    sent = pickle.loads(pickle.dumps(data.train))  # as to a spawned process
    assert torch.equal(sent[2, 5][0], data.train[2, 5][0])
    for other in (plain, other_seed):
        pairs = [(data.train[0, i], other.train[0, i]) for i in range(30)]
        assert all(one[1] == another[1] for one, another in pairs)
        assert sum(not torch.equal(one[0], another[0]) for one, another in pairs) > 25


def test_batches_become_the_networks_input(prepared):
    data = load_event_data(NAME, prepared, T=10)
    frames = torch.stack([data.test[i][0] for i in range(7)])
    x = data.to_input(frames)
    assert x.shape == (10, 7, 2, 48, 48) and x.dtype == torch.float32 and x.is_contiguous()
    for t in range(10):
        assert torch.equal(x[t], frames[:, t])


def test_validation_samples_leave_the_training_set(prepared):
    whole = load_event_data(NAME, prepared, T=10)
    data = load_event_data(NAME, prepared, T=10, validation_fraction=0.2)
    assert len(data.validation) == 36 and len(data.train) == 144 and len(data.test) == 20
    assert [data.validation.labels.count(label) for label in range(10)].count(0) == 0
    rest, held_out = set(data.train.source.indices), set(data.validation.indices)
    assert rest.isdisjoint(held_out) and rest | held_out == set(whole.train.source.indices)
    same = load_event_data(NAME, prepared, T=10, validation_fraction=0.2, seed=5)
    assert set(same.validation.indices) == held_out


def test_shuffled_frames_change_order_in_training_and_test_alike(prepared):
    plain = load_event_data(NAME, prepared, T=10, augment=False)
    shuffled = load_event_data(NAME, prepared, T=10, augment=False, shuffle_frames=True)
    pairs = [(plain.test[3], shuffled.test[3]), (plain.train[0, 3], shuffled.train[0, 3])]
    for (frames, _), (other, _) in pairs:
        assert not torch.equal(frames, other)
        torch.testing.assert_close(frames.sum(0), other.sum(0))


@pytest.mark.parametrize("flip", [True, False])
def test_mirroring_is_for_classes_that_allow_it(prepared, monkeypatch, flip):
    monkeypatch.setitem(SOURCES, NAME, SMALL._replace(flip=flip))
    data = load_event_data(NAME, prepared, T=10)
    steps = [type(step).__name__ for step in data.train.transform.transforms]
    assert ("RandomHorizontalFlip" in steps) == data.flip == flip
    assert not load_event_data(NAME, prepared, T=10, augment=False).flip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "CIFAR"}, "unknown data set 'CIFAR': choose from CIFAR10_DVS, DigitsDVS"),
        ({"split": "given"}, "split 'given' of CIFAR10_DVS: choose from published, tebn"),
        ({"T": 0}, "T = 0: expected at least 1 frame"),
        ({"validation_fraction": 0.01}, "fraction 0.01 of 180 samples does not leave every class"),
    ],
)
def test_wrong_arguments_are_named(prepared, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_event_data(**{"name": NAME, "data_path": prepared, "T": 10, **arguments})


def test_the_folder_of_a_simulated_data_set_may_be_named_itself(tmp_path):
    for path in (tmp_path, tmp_path / "DigitsDVS"):
        assert locate("DigitsDVS", path).folder == tmp_path / "DigitsDVS"


def test_the_command_prepares_draws_and_reports(archives, capsys):
    picture = archives / "frames.png"
    main(["--data_path", str(archives), "--T", "3", "--picture", str(picture)])
    captured = capsys.readouterr()
    assert "3 frames per sample, split published: 180 training and 20 test" in captured.out
    assert "200 recordings to integrate, T = 3" in captured.err
    assert picture.stat().st_size > 10_000
    frames = np.load(archives / "frames_number_3_split_by_number/cat/cifar10_cat_4.npz")["frames"]
    np.testing.assert_array_equal(frames, count_events(EVENTS["cat/cifar10_cat_4"], 3))


def ended(capsys, *arguments):
    """The exit code of the command, and what it wrote to stderr."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return end.value.code, capsys.readouterr().err


WRONG_INPUT = [
    ("--T 0", "argument --T: expected"),
    ("--cache_path FOLDER/cat.zip", "cat.zip is a file"),
    ("--picture FOLDER", "--picture: FOLDER is a folder"),
    ("--picture FOLDER/no/x.png", "there is no folder FOLDER/no"),
]


@pytest.mark.parametrize("flags, message", WRONG_INPUT)
def test_wrong_input_is_refused_at_once_and_leaves_nothing(archives, capsys, flags, message):
    before = set(archives.rglob("*"))
    flags, message = (text.replace("FOLDER", str(archives)) for text in (flags, message))
    code, error = ended(capsys, "--data_path", archives, *flags.split())
    assert (code, error.count("\n")) == (2, 1) and message in error, error
    assert set(archives.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left"), 1, "No space left"),
        (KeyboardInterrupt(), 130, "start again to go on"),
    ],
)
def test_what_ends_it_halfway_has_its_own_exit_code(
    archives, capsys, monkeypatch, error, code, message
):
    def fail(path, content):
        raise error

    monkeypatch.setattr(integrate_module, "write_atomically", fail)
    found, said = ended(capsys, "--data_path", archives, "--num_workers", "0")
    assert found == code and message in said


FORBIDDEN = [
    (0o000, "--data_path LOCKED", "LOCKED/CIFAR10_DVS: Permission denied"),
    (0o555, "--data_path . --picture LOCKED/x.png", "nothing can be written in LOCKED (Permission"),
    (0o555, "--data_path LOCKED --dataset DigitsDVS", "simulated recordings and frames_number_10"),
]


@pytest.mark.parametrize("mode, flags, message", FORBIDDEN)
def test_folders_without_rights_are_named(capsys, mode, flags, message):
    with open_folder() as place:
        locked = place / "locked"
        locked.mkdir()
        with rights(locked, mode):
            code, error = ended(capsys, *flags.replace("LOCKED", str(locked)).split())
        assert (code, error.count("\n")) == (2, 1)
        assert message.replace("LOCKED", str(locked)) in error
        assert list(locked.iterdir()) == []


@pytest.mark.parametrize("num_workers", [0, 2])
def test_it_checks_frames_that_are_there_and_names_all_bad_ones(archives, capsys, num_workers):
    flags = ["--data_path", str(archives), "--T", "3", "--num_workers", str(num_workers)]
    main(flags)
    frames = archives / "frames_number_3_split_by_number"
    content = (frames / "cat/cifar10_cat_4.npz").read_bytes()
    (frames / "cat/cifar10_cat_4.npz").write_bytes(content[:-50])
    np.savez(frames / "dog/cifar10_dog_0.npz", frames=np.full((3, 2, 128, 128), np.nan))
    np.savez(frames / "dog/cifar10_dog_1.npz", frames=np.ones((3, 2, 34, 34)))
    boundless = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9, 99999999, 99999999), }\n"
    with zipfile.ZipFile(frames / "dog/cifar10_dog_2.npz", "w") as archive:
        archive.writestr("frames.npy", b"\x93NUMPY\1\0" + bytes([len(boundless), 0]) + boundless)
    capsys.readouterr()
    code, error = ended(capsys, *flags)
    heading, *lines = error.splitlines()[-5:]
    assert code == 2
    assert heading.startswith("error: 4 files of frames are damaged; delete them and start")
    reasons = {"cat_4": "not a zip", "dog_0": "nan", "dog_1": "34x34", "dog_2": "allocate"}
    for line, (name, reason) in zip(sorted(lines), reasons.items(), strict=True):
        assert f"cifar10_{name}.npz: " in line and reason in line
        (frames / name[:3] / f"cifar10_{name}.npz").unlink()
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
def test_a_signal_ends_it_and_its_processes_and_what_is_done_is_kept(archives, number, code):
    process = multiprocessing.get_context("fork").Process(target=integrate_slowly, args=(archives,))
    process.start()
    incomplete = archives / "frames_number_3_split_by_number.incomplete"
    wait_for(lambda: len(list(incomplete.rglob("*.npz"))) > 3, 60)
    os.killpg(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    wait_for(lambda: group_is_gone(process.pid), 60)
    assert 3 < len(list(incomplete.rglob("*.npz"))) < 200


def group_is_gone(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_runs_as_a_file_from_anywhere(tmp_path):
    command = [sys.executable, PROGRAM, "--data_path", tmp_path]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: CIFAR10_DVS in ") and "Traceback" not in result.stderr
