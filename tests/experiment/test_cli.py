"""The command itself, as a shell starts it: from any folder, as a file and as a module."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.terminal import Terminal

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "experiment" / "cifar" / "main.py"
SMALL = [
    *("--dataset", "FakeData", "--width", "2", "--T", "1", "--num_epoch", "1", "--device", "cpu"),
    *("--num_workers", "0", "--train_batch_size", "256"),
]


def start(*command, cwd, **streams):
    return subprocess.Popen([sys.executable, *map(str, command)], cwd=cwd, text=True, **streams)


def test_as_a_file_from_another_folder_with_a_bar_on_a_terminal(tmp_path):
    terminal = Terminal()
    process = start(MAIN, *SMALL, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal.end)
    printed, _ = process.communicate(timeout=300)
    bar = terminal.text()
    assert process.returncode == 0
    lines = printed.splitlines()
    assert [line.partition(" ")[0].rstrip(":") for line in lines] == ["run", "epoch", "finished"]
    assert "epoch 0 |" in bar and "2/2 steps" in bar and " left" in bar
    assert "Traceback" not in bar
    (folder,) = (tmp_path / "runs").iterdir()  # the default of --log_path
    assert re.search(rf"runs/{folder.name}/curves.png$", lines[-1])


def test_as_a_module_and_refused(tmp_path):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    module = start("-m", "experiment.cifar.main", "--T", "0", cwd=ROOT, **pipes)
    asked = start(MAIN, "--help", cwd=tmp_path, **pipes)
    out, err = module.communicate(timeout=300)
    assert (module.returncode, out) == (2, "")
    assert re.fullmatch(r"error: argument --T: expected a whole number from 1 [^\n]*\n", err)
    out, err = asked.communicate(timeout=300)
    assert (asked.returncode, err) == (0, "")
    assert "--checkpoint_every STEPS" in out
    assert list(tmp_path.iterdir()) == []


TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # of a process that begins a session
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_closed_terminal_is_answered_by_saving(tmp_path):
    """What is printed after the SIGHUP finds nobody."""
    terminal = Terminal()
    argv = [*SMALL, "--dataset", "Digits", "--num_epoch", "1000", "--num_workers", "2"]
    ends = {"stdin": terminal.end, "stdout": terminal.end, "stderr": terminal.end}
    process = start("-c", TERMINAL, MAIN, *argv, cwd=tmp_path, start_new_session=True, **ends)
    terminal.read_until("epoch 0;")
    terminal.close()
    try:
        assert process.wait(timeout=120) == 129
    finally:
        process.kill()
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "last.pt").exists()
    assert "stopped by SIGHUP" in (folder / "train.log").read_text().splitlines()[-1]
