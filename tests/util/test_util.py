"""Seeds repeat, states return, run folders are one's own, the log goes where it should."""

import io
import json
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from util.checkpoint import load_checkpoint, save_checkpoint
from util.util import (
    create_run_folder,
    environment_report,
    random_state,
    restore_random_state,
    seed_everything,
    setup_logging,
)

ROOT = Path(__file__).parents[2]


def draws():
    """Some of everything; Gaussian draws leave a cached second value behind."""
    return (
        random.random(),
        random.gauss(0, 1),
        np.random.rand(3).tolist(),
        np.random.randn(),
        torch.rand(3).tolist(),
        torch.randn(5).tolist(),
    )


# --- random numbers ----------------------------------------------------------------------------


def test_equal_seeds_equal_numbers():
    seed_everything(60)
    first = draws()
    assert draws() != first
    seed_everything(60)
    assert draws() == first
    seed_everything(61)
    assert draws() != first
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_outside_the_range_are_refused(seed):
    with pytest.raises(ValueError, match=str(seed)):
        seed_everything(seed)


def test_the_largest_seed_works():
    seed_everything(2**32 - 1)


def test_random_state_returns_through_a_checkpoint(tmp_path):
    seed_everything(7)
    draws()  # an odd number of Gaussian draws: the cached value is part of the state
    save_checkpoint(random_state(), tmp_path / "last.pt")
    expected = [draws(), draws()]
    seed_everything(8)
    draws()
    restore_random_state(load_checkpoint(tmp_path / "last.pt"))
    assert [draws(), draws()] == expected


def test_reading_the_state_draws_nothing():
    seed_everything(7)
    expected = draws()
    seed_everything(7)
    random_state()
    assert draws() == expected


# --- run folders -------------------------------------------------------------------------------


def test_every_run_gets_a_new_folder(tmp_path):
    log_path = tmp_path / "log"  # created: its parent exists
    folders = [create_run_folder(log_path, "cifar10-resnet18-T6") for _ in range(4)]
    assert [folder.name for folder in folders] == [
        "cifar10-resnet18-T6",
        "cifar10-resnet18-T6-2",
        "cifar10-resnet18-T6-3",
        "cifar10-resnet18-T6-4",
    ]
    assert sorted(log_path.iterdir()) == sorted(folders)


def test_nothing_that_exists_is_touched(tmp_path):
    (tmp_path / "run").write_text("a file")
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "last.pt").write_text("precious")
    (tmp_path / "run-3").symlink_to(tmp_path / "nowhere")
    assert create_run_folder(tmp_path, "run") == tmp_path / "run-4"
    assert (tmp_path / "run").read_text() == "a file"
    assert (tmp_path / "run-2" / "last.pt").read_text() == "precious"


START_TOGETHER = """
import os, sys
from util.util import create_run_folder

for log_path in sys.argv[1:]:
    gate, opener = os.pipe()
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            os.close(opener)
            os.read(gate, 1)  # returns when the parent closes the other end: all start at once
            folder = create_run_folder(log_path, "run")
            os.write(1, f"{folder}\\n".encode())
            os._exit(0)
        children.append(child)
    os.close(opener)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
"""


def test_eight_processes_at_one_moment_get_eight_folders(tmp_path):
    log_paths = [tmp_path / f"log{attempt}" for attempt in range(5)]
    output = subprocess.run(
        [sys.executable, "-c", START_TOGETHER, *map(str, log_paths)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    ).stdout.split()
    assert len(output) == len(set(output)) == 5 * 8
    assert sorted(output) == sorted(str(run) for path in log_paths for run in path.iterdir())


def test_missing_parents_are_made_and_a_file_in_the_way_is_named(tmp_path):
    assert create_run_folder(tmp_path / "new" / "deep" / "log", "run").is_dir()
    shutil.rmtree(tmp_path / "new")
    (tmp_path / "file").touch()
    for log_path in (tmp_path / "file", tmp_path / "file" / "log"):
        with pytest.raises(OSError, match="a file is in the way") as refusal:
            create_run_folder(log_path, "run")
        assert str(log_path) in str(refusal.value)
    assert sorted(os.listdir(tmp_path)) == ["file"]


@pytest.fixture
def read_only_folder():
    """A folder that this process may not write to, even if it is root's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_named(read_only_folder):
    for log_path in (read_only_folder, read_only_folder / "log"):
        with pytest.raises(PermissionError, match="Permission denied; choose a folder") as refusal:
            create_run_folder(log_path, "run")
        assert str(log_path) in str(refusal.value)
    assert os.listdir(read_only_folder) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a b", "a\n", "a\0"])
def test_names_that_are_no_plain_component_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="run name"):
        create_run_folder(tmp_path / "log", name)
    assert os.listdir(tmp_path) == []


# --- log ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quiet_logger_afterwards():
    yield
    setup_logging(None, rank=1)


def test_the_log_goes_to_console_and_file(tmp_path, capsys):
    setup_logging(tmp_path).info("epoch %d", 3)
    assert capsys.readouterr().out == "epoch 3\n"
    line = (tmp_path / "train.log").read_text()
    assert line.endswith("INFO epoch 3\n")
    assert line.startswith("20")  # a date


def test_a_second_set_up_continues_the_file_and_repeats_nothing(tmp_path, capsys):
    setup_logging(tmp_path).info("one")
    setup_logging(tmp_path).info("two")
    assert capsys.readouterr().out == "one\ntwo\n"
    assert [line.split()[-1] for line in (tmp_path / "train.log").open()] == ["one", "two"]
    setup_logging(None).info("three")
    assert capsys.readouterr().out == "three\n"
    assert len((tmp_path / "train.log").read_text().splitlines()) == 2


def test_other_ranks_are_silent(tmp_path, capfd):
    setup_logging(tmp_path, rank=1).error("nobody hears this")
    assert capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_gives_one_sentence_and_the_run_goes_on(tmp_path, capsys):
    (tmp_path / "train.log").symlink_to("/dev/full")
    logger = setup_logging(tmp_path)
    for _ in range(3):
        logger.info("still running")
    shown = capsys.readouterr()
    assert shown.out == "still running\n" * 3
    assert shown.err.count("\n") == 1
    assert "No space left on device" in shown.err
    logging.getLogger("train").handlers[-1].stream = None  # its buffer can never be flushed


def test_a_console_that_is_gone_gives_one_sentence_and_the_log_has_all(
    tmp_path, capsys, monkeypatch
):
    """One that is somebody else's: a command's own never raises (`util.console`)."""
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stdout", gone)
    logger = setup_logging(tmp_path)
    for _ in range(3):
        logger.info("still running")
    assert re.fullmatch(r"cannot write standard output: [^\n]+\n", capsys.readouterr().err)
    assert (tmp_path / "train.log").read_text().count("still running") == 3


def test_the_log_takes_what_is_no_letter(tmp_path):
    setup_logging(tmp_path).info("run folder caf\udce9 µ")
    assert "run folder caf\\udce9 µ" in (tmp_path / "train.log").read_text(encoding="utf-8")


# --- environment -------------------------------------------------------------------------------


def test_the_report_names_what_a_result_depends_on():
    report = json.loads(json.dumps(environment_report(["main.py", "--name", "two words"])))
    assert report["command"] == "main.py --name 'two words'"
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
    for package in ("torch", "torchvision", "numpy", "spikingjelly"):
        assert report[package] == version(package)
    assert report["threads"] == torch.get_num_threads()
    assert report["device"]


def test_the_default_command_is_this_process():
    program = "from util.util import environment_report; print(environment_report()['command'])"
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, "--T", "6"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert answer.startswith(sys.executable + " -W ignore -c ")
    assert answer.endswith(" --T 6\n")


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout"
)
def test_the_commit_is_that_of_the_checkout():
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    commit = environment_report()["git_commit"]
    if head.returncode != 0:  # no commit yet
        assert commit is None
    else:
        assert commit.removesuffix("-dirty") == head.stdout.strip()
