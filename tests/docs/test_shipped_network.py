"""The network that comes with the code is what its pages say."""

import json
import re
from pathlib import Path

import pytest
import torch

from experiment.cifar import main as cifar
from experiment.trained import evaluate, predict
from util.file.record import MetricsFile

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "checkpoint" / "README.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = ROOT / "checkpoint" / "digits"
ONE_IMAGE = 100 / 360  # another processor rounds otherwise, and may see one or two otherwise


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    evaluate.main([str(RUN / "ema.pt"), "--device", "cpu", "--out", str(folder)])
    return json.loads((folder / "evaluate.json").read_bytes())


def test_its_accuracies_are_those_of_its_run_and_its_pages(found):
    steps = [step["top1"] for step in found["steps"]]
    recorded = MetricsFile(RUN / "metrics.jsonl").read()[-1]["ema"]["test"]
    assert found["head_top1"] == pytest.approx(recorded["head_top1"], abs=2.1 * ONE_IMAGE)
    (row,) = re.findall(r"^\| test accuracy .*$", PAGE, re.M)
    shown = [float(number) for number in re.findall(r"([\d.]+) %", row)]
    assert steps == pytest.approx(shown, abs=2.1 * ONE_IMAGE)
    (pair,) = re.findall(r"digits, ([\d.]+) % after\s+one time step, ([\d.]+) %", README)
    assert [float(number) for number in pair] == [shown[0], shown[-1]]


def test_it_is_small_and_has_what_its_run_wrote():
    assert (RUN / "ema.pt").stat().st_size < 4 * 2**20
    assert {path.name for path in RUN.iterdir() if path.is_file()} == {
        *("ema.pt", "config.json", "metrics.jsonl", "train.log", "curves.png")
    }


def test_its_recipe_is_the_command_of_its_page():
    """Which begins a training of the same identity."""
    (words,) = re.findall(r"python experiment/cifar/main\.py (.*)$", PAGE, re.M)
    asked = vars(cifar.get_parser().parse_args(words.split()))
    config = json.loads((RUN / "config.json").read_bytes())
    assert {name: asked[name] for name in config["identity"]} == config["identity"]
    assert torch.__version__.startswith(config["environment"]["torch"])


def test_it_reads_pictures(tmp_path, capsys):
    from experiment import sample_pictures

    sample_pictures.main(["--dataset", "Digits", "--output", str(tmp_path)])
    capsys.readouterr()
    predict.main([str(RUN / "ema.pt"), "--device", "cpu", "--format", "json", str(tmp_path)])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 10, answers
