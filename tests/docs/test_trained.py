"""The page on trained networks: its commands and its examples run, in small."""

import re
import shlex
from contextlib import chdir
from importlib import import_module
from pathlib import Path

import pytest
from torchvision.io import write_png

from experiment.cifar import main as cifar
from tests.support.trained_run import CPU, load_trained, make_checkpoint

PAGE = (Path(__file__).parents[2] / "docs/trained.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    \$ python experiment/trained/(\w+)\.py (.+)$", PAGE, re.MULTILINE)
EXAMPLES = re.findall(r"^## ([^\n]+)\n[^#]*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
FEW = {
    "evaluate": "--images 8",
    "energy": "--images 4",
    "look_inside": "--images 4 --gradient_images 2",
    "export": "--images 4",
    "predict": "",
}


def run(command, arguments):
    main = import_module(f"experiment.trained.{command}").main
    return main([*shlex.split(arguments), *FEW[command].split(), "--device", "cpu"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where commands are given: with a run, exported by the command of the page, and pictures."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "runs/FOLDER").mkdir(parents=True)
    (folder / "pictures").mkdir()
    flags = ("--arch", "vgg11", "--v_reset", "0", "--T", "1")
    path = make_checkpoint(folder / "runs/FOLDER", *flags)
    images = load_trained(path, CPU).data.test
    for i in range(2):
        write_png(images[i][0], str(folder / f"pictures/{i}.png"))
    with chdir(folder):
        (arguments,) = (arguments for command, arguments in COMMANDS if command == "export")
        run("export", arguments)
    return folder


def test_the_page_shows_every_command_and_way_to_read():
    assert {command for command, _ in COMMANDS} == FEW.keys()
    assert [title for title, _ in EXAMPLES] == ["ONNX", "NIR", "One frame at a time", "Early exit"]


def test_the_run_of_the_page_is_one():
    """It takes minutes; that the flags are taken is what is tested."""
    (command,) = re.findall(r"^    python experiment/cifar/main.py (.+)$", PAGE, re.MULTILINE)
    args = cifar.get_parser().parse_args(shlex.split(command))
    assert (args.dataset, args.width, args.T) == ("Digits", 8, 4)


OTHERS = [pair for pair in COMMANDS if pair[0] != "export"]


@pytest.mark.parametrize(("command", "arguments"), OTHERS, ids=map(" ".join, OTHERS))
def test_a_command_runs(command, arguments, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert run(command, arguments)
    printed = capsys.readouterr()
    assert printed.out and not printed.err


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_an_example_runs(title, code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert max(map(len, code.splitlines())) <= 100
    exec(compile(code, f"docs/trained.md, {title}", "exec"), {})
