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
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.rights import open_folder, rights
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


def test_equal_seeds_equal_numbers():
    seed_everything(60)
    first = draws()
    assert draws() != first
    seed_everything(60)
    random_state()  # which draws nothing
    assert draws() == first
    seed_everything(2**32 - 1)
    assert draws() != first
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_outside_the_range_are_refused(seed):
    with pytest.raises(ValueError, match=str(seed)):
        seed_everything(seed)


def test_random_state_returns_through_a_checkpoint(tmp_path):
    seed_everything(7)
    draws()  # an odd number of Gaussian draws: the cached value is part of the state
    save_checkpoint(random_state(), tmp_path / "last.pt")
    expected = [draws(), draws()]
    seed_everything(8)
    draws()
    restore_random_state(load_checkpoint(tmp_path / "last.pt"))
    assert [draws(), draws()] == expected


def test_every_run_gets_a_new_folder_and_nothing_that_exists_is_touched(tmp_path):
    log_path = tmp_path / "new" / "deep" / "log"
    assert create_run_folder(log_path, "run") == log_path / "run"
    (log_path / "run" / "last.pt").write_text("precious")
    (log_path / "run-2").write_text("a file")
    (log_path / "run-3").symlink_to(tmp_path / "nowhere")
    assert create_run_folder(log_path, "run") == log_path / "run-4"
    assert (log_path / "run" / "last.pt").read_text() == "precious"
    assert (log_path / "run-2").read_text() == "a file"
    assert sorted(os.listdir(log_path)) == ["run", "run-2", "run-3", "run-4"]


def test_eight_at_one_moment_get_eight_folders(tmp_path):
    gate = threading.Barrier(8)

    def start(_):
        gate.wait()
        return create_run_folder(tmp_path, "run")

    for attempt in range(1, 6):
        with ThreadPoolExecutor(8) as pool:
            folders = list(pool.map(start, range(8)))
        assert len(set(folders)) == 8
        assert len(os.listdir(tmp_path)) == 8 * attempt


@pytest.mark.parametrize("name", ["file", "file/log"])
def test_a_file_in_the_way_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"{tmp_path / name}.*a file is in the way"):
        create_run_folder(tmp_path / name, "run")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", [".", "log"])
def test_a_read_only_folder_is_named(name):
    with open_folder() as place, rights(place, 0o555):
        log_path = place / name
        with pytest.raises(PermissionError, match=f"{log_path}.*denied; choose a folder"):
            create_run_folder(log_path, "run")
        assert os.listdir(place) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a b", "a\n", "a\0"])
def test_names_that_are_no_plain_component_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="run name"):
        create_run_folder(tmp_path / "log", name)
    assert os.listdir(tmp_path) == []


@pytest.fixture(autouse=True)
def quiet_logger_afterwards():
    yield
    setup_logging(None, rank=1)


def test_the_log_goes_to_console_and_file_which_is_continued(tmp_path, capsys):
    for number in (3, 4):
        setup_logging(tmp_path).info("epoch %d", number)
    setup_logging(None).info("on the console alone")
    assert capsys.readouterr().out == "epoch 3\nepoch 4\non the console alone\n"
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line.split(" INFO ")[1] for line in lines] == ["epoch 3", "epoch 4"]
    assert all(re.match(r"20\d\d-\d\d-\d\d ", line) for line in lines)


def test_the_log_takes_what_is_no_letter(tmp_path):
    setup_logging(tmp_path).info("run folder caf\udce9 µ")
    assert "run folder caf\\udce9 µ" in (tmp_path / "train.log").read_text(encoding="utf-8")


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
    """One that is somebody else's: a command's own never raises (`util.process.console`)."""
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stdout", gone)
    logger = setup_logging(tmp_path)
    for _ in range(3):
        logger.info("still running")
    assert re.fullmatch(r"cannot write standard output: [^\n]+\n", capsys.readouterr().err)
    assert (tmp_path / "train.log").read_text().count("still running") == 3


def test_the_report_names_what_a_result_depends_on(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["main.py", "--name", "two words"])
    report = json.loads(json.dumps(environment_report()))
    assert report["command"] == "main.py --name 'two words'"
    assert report["python"] == ".".join(map(str, sys.version_info[:3]))
    packages = ("torch", "torchvision", "numpy", "spikingjelly")
    assert [report[package] for package in packages] == [version(package) for package in packages]
    assert report["threads"] == torch.get_num_threads()
    assert report["device"]


def test_the_default_command_is_this_process():
    program = "from util.util import environment_report; print(environment_report()['command'])"
    command = [sys.executable, "-W", "ignore", "-c", program, "--T", "6"]
    answer = subprocess.check_output(command, cwd=ROOT, text=True, timeout=300)
    assert answer.startswith(sys.executable + " -W ignore -c ")
    assert answer.endswith(" --T 6\n")


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout"
)
def test_the_commit_is_that_of_the_checkout():
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True)
    commit = environment_report()["git_commit"]
    if head.returncode != 0:  # no commit yet
        assert commit is None
    else:
        assert commit.removesuffix("-dirty") == head.stdout.strip()
