"""The page on fine-tuning: every command in it runs, made small."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from experiment.cifar import main as cifar
from experiment.train import recorder
from tests.fault.micro_run import few_images
from tests.support.data_files import write_cifar, write_mnist_family
from tests.support.golden import NetworkCase
from util.data import load_dataset

PAGE = (Path(__file__).parents[2] / "docs/fine_tuning.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    python experiment/cifar/main\.py (.+)$", PAGE, re.MULTILINE)
SMALLER = {
    **{"--width 16": "--width 2", "--T 4": "--T 1", "--T 6": "--T 1", "size 32": "size 28"},
    **{f"--num_epoch {count}": "--num_epoch 1" for count in (3, 12, 30)},
    "--num_epoch 20": "--num_epoch 2",
}


def made_small(command):
    for words, fewer in SMALLER.items():
        command = re.sub(rf"{words}\b", fewer, command)
    return shlex.split(command) + (["--num_workers", "0"] if "--init" in command else [])


def few_of_many(*arguments, **options):
    data = load_dataset(*arguments, **options)
    return few_images(data) if len(data.train) > 100 else data


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with small data, published weights, and the run that is `runs/DIGITS`."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        write_mnist_family(Path("data/FashionMNIST/raw"))
        for dataset in (CIFAR10, CIFAR100):
            write_cifar(patch, dataset, Path("data"))
        torch.save({"best_net": NetworkCase("resnet18_c100_T4").state()}, "model_weights.pth")
        for name in ("cats/1", "cats/2", "cats/3", "dogs/1", "dogs/2", "dogs/3"):
            for part in ("train", "test"):
                path = Path("pictures", part, f"{name}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (40, 36), len(str(path))).save(path)
        patch.setattr(cifar, "load_dataset", few_of_many)
        patch.setattr(recorder, "draw_curves", lambda records, path: None)
        result = cifar.main(made_small(COMMANDS[0]))
        Path(result["folder"]).rename("runs/DIGITS")
        yield place


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_a_command_runs(command, place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    result = cifar.main(made_small(command))
    said = capsys.readouterr()
    assert "warning" not in said.err
    if "--init" in command:
        (line,) = [line for line in said.out.splitlines() if line.startswith("--init")]
        assert "88 of 92 layers taken; fresh: the classifiers of 4 heads (" in line
    if "--resume" in command:
        assert "--num_epoch 2 (was 1): from epoch 1 on the learning rate" in said.out
        assert len(json.loads(Path("runs/DIGITS/config.json").read_text())["extended"]) == 1
    if "--evaluate" in command:
        assert f"spiking network: top-1 {result['top1']:.2f} %" in said.out


def test_weights_go_from_digits_to_clothes_and_back(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    small = shlex.split("--width 2 --T 1 --num_epoch 1 --num_workers 0 --data_path data")
    start = "runs/DIGITS"
    for dataset in ("FashionMNIST", "Digits"):
        options = ["--dataset", dataset, "--init", f"{start}/best.pt"]
        start = cifar.main([*small, *options])["folder"]
        assert "88 of 92 layers taken; fresh: the classifiers of 4 heads" in capsys.readouterr().out


def test_the_page_shows_one_command_of_each_kind():
    flags = ["--init", "--evaluate", "--resume", "--num_epoch", "Folder", "model_weights.pth"]
    assert len(COMMANDS) == 8
    assert all(any(flag in command for command in COMMANDS) for flag in flags)
