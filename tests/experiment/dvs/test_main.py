"""experiment.dvs.main: from archives to a trained network and back from its checkpoint."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiment.dvs.main import main
from experiment.dvs.recording.source import SOURCES
from experiment.flag import ways
from experiment.train import run, tuning
from experiment.train.failure import RunFailed
from experiment.trained.part.trained_network import load_trained
from tests.support.event_files import cifar10_dvs_events, write_archives

NAME = "CIFAR10_DVS"
SHORT = shlex.split(
    "--width 2 --num_epoch 1 --num_workers 0 --train_batch_size 18 --T 3 --device cpu"
)


@pytest.fixture
def paths(tmp_path, monkeypatch):
    """--data_path with a CIFAR10-DVS of six recordings per class, and --log_path."""
    monkeypatch.setitem(SOURCES, NAME, SOURCES[NAME]._replace(samples=60))
    write_archives(tmp_path / NAME / "download", cifar10_dvs_events(6))
    return ["--data_path", str(tmp_path), "--log_path", str(tmp_path / "runs")]


@pytest.mark.parametrize("split", ["published", "tebn"])
def test_a_run_names_its_split_and_draws_its_frames(paths, split):
    result = main([*paths, *SHORT, *([] if split == "published" else ["--split", split])])
    folder = Path(result["folder"])
    assert split in folder.name and NAME in folder.name
    config = json.loads((folder / "config.json").read_text())
    assert config["arguments"]["split"] == config["identity"]["split"] == split
    (record,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert record["test"]["samples"] == (6 if split == "published" else 10)
    assert len(record["test"]["head_top1"]) == 4
    with Image.open(folder / "event_frames.png") as picture:
        assert min(picture.size) > 100
    again = main([*paths, *SHORT, "--split", split, "--evaluate", str(folder / "best.pt")])
    assert again["head_top1"] == pytest.approx(record["test"]["head_top1"])


def test_the_frames_are_drawn_before_the_first_step(paths, monkeypatch):
    def see_folder(folder, *arguments, **options):
        assert (folder / "event_frames.png").stat().st_size > 10_000
        raise RunFailed("seen")

    monkeypatch.setattr(run, "train_in", see_folder)
    with pytest.raises(SystemExit) as end:
        main([*paths, *SHORT])
    assert end.value.code == 1


def test_frames_are_made_where_the_flag_says_and_found_there_again(paths, tmp_path):
    result = main([*paths, *SHORT, "--cache_path", str(tmp_path / "cache")])
    frames = tmp_path / "cache" / NAME / "frames_number_3_split_by_number"
    assert len(list(frames.rglob("*.npz"))) == 60
    assert [path.name for path in (tmp_path / NAME).iterdir()] == ["download"]
    trained = load_trained(Path(result["folder"]) / "best.pt", torch.device("cpu"))
    assert trained.data.test.path(0).startswith(str(frames))
    assert [path.name for path in (tmp_path / NAME).iterdir()] == ["download"]


def test_resnet19_takes_48_pixels(paths):
    result = main([*paths, *SHORT, "--arch", "resnet19"])
    assert len(result["head_top1"]) == 3


def test_the_control_with_shuffled_frames_is_another_run(paths):
    plain = main([*paths, *SHORT])
    shuffled = main([*paths, *SHORT, "--shuffle_frames"])
    assert plain["loss"] != shuffled["loss"]
    assert "_shuffled_" in shuffled["folder"] and "_shuffled_" not in plain["folder"]
    config = json.loads((Path(shuffled["folder"]) / "config.json").read_text())
    assert config["identity"]["shuffle_frames"] is True


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--split", "given"], "split 'given' of CIFAR10_DVS: choose from published, tebn"),
        (["--dataset", "DigitsDVS", "--split", "tebn"], "split 'tebn' of DigitsDVS"),
        (["--dataset", "DVS128Gesture"], "put DvsGesture.tar.gz from https://"),
        (["--train_per_class", "7"], "and --train_per_class asks for 7 of each class"),
        (["--T", "0"], "--T"),
    ],
)
def test_wrong_input_ends_with_one_sentence_and_no_folder(paths, flags, message, capsys):
    with pytest.raises(SystemExit) as end:
        main([*paths, *SHORT, *flags])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(Path(paths[3]).glob("*"))


def test_a_training_on_frames_is_timed(paths, monkeypatch):
    monkeypatch.setattr(ways, "SWITCHES", ())
    monkeypatch.setattr(ways, "PRECISIONS", ("none", "bf16-backward"))
    monkeypatch.setattr(tuning, "ENOUGH", 0.0)
    assert len(main([*paths, *SHORT, "--tune"])) == 2
    assert not Path(paths[-1]).exists()
