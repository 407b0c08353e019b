"""The page on data: its commands for one's own data run as they stand, with small numbers."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.event_files import as_arrays, random_events

PAGE = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
SMALLER = {"--width 8": "--width 2", "--num_epoch 20": "--num_epoch 1"}


def commands(section):
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^    python (\S+) (.*)$", text, re.MULTILINE)


def run(script, arguments):
    for shown, small in SMALLER.items():
        arguments = arguments.replace(shown, small)
    (run_folder,) = [*Path("runs").glob("*")] or ["none"]
    arguments = arguments.replace("runs/FOLDER", str(run_folder))
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    return module.main(shlex.split(arguments))


def record(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **as_arrays(random_events(200, seed, side=40)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for label, name in enumerate(("left", "right")):
        for number in range(10):
            record(tmp_path / "recordings" / name / f"{number}.npz", 100 * label + number)
    record(tmp_path / "new" / "one.npz", 999)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_own_recordings_to_the_class_of_a_new_one(folder, capsys):
    prepare, train, predict = commands("Own recordings")
    run(*prepare)
    assert (
        "4 frames per sample, split stratified: 16 training and 4 test" in capsys.readouterr().out
    )
    with Image.open(folder / "frames.png") as picture:
        assert min(picture.size) > 100
    result = run(*train)
    assert Path(result["folder"], "event_frames.png").exists()
    assert "looking at" not in capsys.readouterr().err, "the frames are there"
    (answer,) = run(*predict)
    assert answer.path == Path("new/one.npz") and answer.label in ("left", "right")


@pytest.mark.slow
def test_from_own_pictures_to_the_class_of_a_new_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, evaluate, predict, tree, new = commands("Own pictures")
    assert len(run(*tree)) == 200
    assert len(run(*new)) == 2
    run(*train)
    assert run(*evaluate)["samples"] == 40
    answers = run(*predict)
    assert [answer.path.name for answer in answers] == ["3_0000.png", "8_0000.png"]
    assert {answer.label for answer in answers} <= {"3", "8"}
