"""Every command works where users, letters, folders, backends and consoles are odd.

The commands of a machine share a process, since to import torch is what takes long.
"""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

from experiment.cifar import main as cifar
from experiment.trained import predict
from tests.experiment.test_cli import SMALL
from tests.experiment.test_packages import MICRO
from tests.support.commands import COMMANDS, ROOT
from tests.support.image_files import write_image_folder
from tests.support.trained_run import make_checkpoint
from util.process.console import SteadyFile

ODD = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # a notebook's, not installed here
    "TORCHINDUCTOR_CACHE_DIR": "/proc/none",  # which nobody can make
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONIOENCODING": "ascii",
}
NAMES = ["US$_bill", "a$^$b", os.fsdecode(b"caf\xe9"), "x|y"]
FEW = ["--images", "4", "--batch_size", "4", "--device", "cpu"]


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | changes


@pytest.mark.slow
def test_every_command_on_an_odd_machine(tmp_path):
    """A user without a name or home, a notebook's backend, ASCII, class names of all kinds."""
    data = write_image_folder(tmp_path / "data", classes=len(NAMES), train=2)
    for part in ("train", "val"):
        for folder, name in zip(sorted((data / part).iterdir()), NAMES, strict=True):
            folder.rename(folder.with_name(name))
    runs = tmp_path / "µ"
    network = f"{runs}/*/last.pt"
    train = ["--data_path", str(data), "--log_path", str(runs), "--train_batch_size", "4"]
    small = ["--arch", "resnet18", "--image_size", "32"]
    figure = ["--measured", "docs/benchmark/cost.json", "--output", str(tmp_path / "figure.PNG")]
    works = [
        ["experiment/imagenet/main.py", *MICRO, *small, *train],
        ["experiment/trained/evaluate.py", network, *FEW],
        ["experiment/trained/energy.py", network, *FEW],
        ["experiment/trained/look_inside.py", network, *FEW, "--gradient_images", "2"],
        ["experiment/trained/predict.py", network, "docs/digits.png", "--device", "cpu"],
        ["experiment/curves.py", f"{runs}/*"],
        ["benchmark/speed/readme_figure.py", *figure],
    ]
    commands = [*([command, "--help"] for command in COMMANDS), *works]
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    program = [sys.executable, "-m", "tests.support.odd_machine", tmp_path / "commands.json"]
    options = {"cwd": ROOT, "env": environment(**ODD), "capture_output": True, "timeout": 300}
    result = subprocess.run(program, **options)
    printed, errors = result.stdout.decode("ascii"), result.stderr.decode()
    codes = json.loads((tmp_path / "commands.json").read_bytes())
    assert [c for c, code in zip(commands, codes, strict=True) if code] == [], errors
    expected = r"(Matplotlib created a temporary cache directory [^\n]+\n)?(compiling [^\n]+\n)?"
    assert re.fullmatch(expected, errors), errors
    assert printed.count("usage: ") == len(COMMANDS) > 15
    assert " \\xb5J, the same network without" in printed
    assert "taken for caf\\udce9" in printed or "caf\\udce9 taken for" in printed
    (run,) = runs.iterdir()
    assert json.loads((run / "evaluate-last" / "evaluate.json").read_bytes())["classes"] == NAMES
    assert "finished: " in (run / "train.log").read_text(encoding="utf-8")
    assert len(list(run.glob("**/*.png"))) == 8
    assert not (ROOT / "~").exists()


def test_training_goes_on_when_its_reader_is_gone(tmp_path):
    """The rest is in train.log; standard error says so once."""
    reading, writing = os.pipe()
    command = [sys.executable, "experiment/cifar/main.py", *SMALL, "--log_path", str(tmp_path)]
    streams = {"stdout": writing, "stderr": subprocess.PIPE, "text": True}
    options = {"cwd": ROOT, "env": environment(PYTHONIOENCODING="utf-8"), **streams}
    process = subprocess.Popen(command, **options)
    os.close(writing)
    os.close(reading)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0
    assert errors.splitlines() == [
        "warning: standard output cannot be written (Broken pipe); going on without it"
    ]
    (run,) = tmp_path.iterdir()
    assert "finished: " in (run / "train.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_prints_that_are_the_product_have_to_arrive(command, tmp_path, capsys):
    network = str(make_checkpoint(tmp_path, "--dataset", "FakeData"))
    device = SteadyFile("/dev/full", "w")
    full = io.TextIOWrapper(io.BufferedWriter(device), encoding="utf-8")
    with pytest.raises(SystemExit) as end, redirect_stdout(full):
        if command == "predict":
            predict.main([network, str(ROOT / "docs" / "digits.png"), "--device", "cpu"])
        else:
            cifar.main([*SMALL, "--T", "3", "--evaluate", network])
    assert end.value.code == 1
    sentence = "error: standard output is not whole: No space left on device"
    assert capsys.readouterr().err.splitlines()[-1] == sentence
