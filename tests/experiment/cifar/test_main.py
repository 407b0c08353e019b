"""Runs on pictures of one's own: trained, gone on with, evaluated and used, also after a move."""

import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from experiment.cifar.main import main
from experiment.data_description import description_in
from experiment.imagenet.main import main as imagenet
from experiment.trained import evaluate, predict
from tests.support.image_files import write_image_folder, write_tree
from util.checkpoint import load_checkpoint
from util.image import decoded

SMALL = shlex.split(
    "--dataset Folder --image_size 24 --branch_pool global --width 2 --T 1 --train_batch_size 8 "
    "--num_workers 0 --device cpu --num_epoch"
)


def command(data_path, log_path, *more, epochs=1):
    return [*SMALL, epochs, "--data_path", data_path, "--log_path", log_path, *more]


def refusal(capsys, run, *argv):
    with pytest.raises(SystemExit) as end:
        run(*argv)
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()


@pytest.fixture
def trained(tmp_path):
    """The pictures and the folder of a run on them, in one tree."""
    pictures = write_tree(tmp_path / "pictures")
    result = main(command(pictures, tmp_path / "runs", "--val_fraction", 0.25))
    return pictures, Path(result["folder"])


def test_a_run_is_used_where_its_pictures_have_moved(trained, tmp_path, capsys):
    pictures, run = trained
    description = description_in(load_checkpoint(run / "best.pt"))
    assert (description.name, description.channels, description.resize) == ("Folder", 3, 24)
    assert (description.training_samples, description.test_samples) == (12, 4)
    moved = tmp_path / "moved"
    shutil.move(pictures, moved)
    assert str(pictures) in refusal(capsys, evaluate.main, [run / "best.pt"])[0]
    there = [run / "best.pt", "--data_path", moved, "--device", "cpu"]
    found = evaluate.main(there)
    assert found["samples"] == 4 and found["classes"] == ["class_00", "class_01"]
    answers = predict.main([run / "best.pt", moved / "class_01", "--device", "cpu"])
    assert len(answers) == 10
    args = command(moved, tmp_path / "runs", "--val_fraction", 0.25)
    assert main([*args, "--evaluate", run / "best.pt"])["top1"] == found["top1"]


def test_an_accuracy_on_other_pictures_is_doubted(trained, tmp_path, capsys):
    """A new draw may test on what was trained on."""
    pictures, run = trained
    best, plain = run / "best.pt", command(pictures, tmp_path / "runs")

    def said_of(*more):
        capsys.readouterr()
        main([*plain, "--evaluate", best, *more])
        return [line for line in capsys.readouterr().err.splitlines() if "best.pt: it was" in line]

    assert said_of() == []
    (line,) = said_of("--split_seed", 1)
    assert line == f"warning: {best}: it was trained with split_seed 0 (asked for: 1)"
    shutil.copy(pictures / "class_00" / "0.JPEG", pictures / "class_00" / "new.JPEG")
    (line,) = said_of()
    assert "4 test samples, by now there are 12 training and 5 test" in line
    evaluate.main([best, "--device", "cpu"])
    assert line in capsys.readouterr().err


def test_a_colour_among_gray_pictures_is_what_no_longer_fits(tmp_path, capsys):
    pictures = write_tree(tmp_path / "pictures")
    for path in pictures.glob("*/*"):
        Image.open(path).convert("L").save(path)
    argv = command(pictures, tmp_path / "runs")
    run = Path(main(argv)["folder"])
    Image.new("RGB", (9, 9), "red").save(pictures / "class_00" / "0.JPEG")
    said = "it was trained on data of 1 channels and these have 3 (one picture in colour"
    for flag in ("--evaluate", "--resume"):
        assert said in refusal(capsys, main, [*argv, flag, run / "last.pt"])[-1]
    assert said in refusal(capsys, evaluate.main, [run / "last.pt"])[-1]
    assert main([*argv, "--evaluate", run / "last.pt", "--channels", 1])["samples"] == 4


def test_a_run_goes_on_with_the_same_flags_alone(tmp_path, capsys):
    pictures = write_tree(tmp_path / "pictures")
    argv = command(pictures, tmp_path / "runs", "--resume", "auto", epochs=2)
    result = main(argv)
    shutil.move(pictures, tmp_path / "moved")
    argv[argv.index("--data_path") + 1] = tmp_path / "moved"
    assert main(argv) == result
    last = Path(result["folder"]) / "last.pt"
    for flags in (("--split_seed", 1), ("--no-flip",), ("--channels", 1)):
        line = refusal(capsys, main, [*argv, *flags, "--resume", last])[-1]
        assert f"{flags[0].strip('-').removeprefix('no-')} " in line


def test_every_bad_picture_is_listed_and_the_first_ends_a_training(tmp_path, capsys):
    pictures = write_image_folder(tmp_path / "x", classes=2, train=4)
    bad = [pictures / "train/class_01/2.JPEG", pictures / "val/class_00/0.JPEG"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-200])
    check = ["--dataset", "Folder", "--data_path", pictures, "--check_data"]
    heading, *lines = refusal(capsys, main, check)[-3:]
    assert heading.startswith("error: 2 of 10 images cannot be read")
    assert [line.split(":")[0].strip() for line in lines] == list(map(str, bad))
    (line,) = refusal(capsys, main, command(pictures, tmp_path / "runs"))
    assert line.startswith(f"error: {bad[0]} cannot be read as an image")
    (line,) = refusal(capsys, main, command(pictures, tmp_path / "runs", "--num_workers", "2"))
    assert line.startswith(f"error: {bad[0]} cannot be read as an image")
    assert not (tmp_path / "runs").exists()
    for path in bad:
        shutil.copy(pictures / "val/class_01/0.JPEG", path)
    capsys.readouterr()
    assert main(check) == {"train": 8, "test": 2}


def test_the_experiments_name_each_other(tmp_path, capsys, monkeypatch):
    pictures = write_tree(tmp_path / "x")
    (line,) = refusal(capsys, imagenet, ["--data_path", pictures, "--log_path", tmp_path / "runs"])
    assert "experiment/cifar/main.py --dataset Folder" in line
    monkeypatch.setattr(decoded, "bytes_of_memory", lambda: 1000)
    (line,) = refusal(capsys, main, command(pictures, tmp_path / "runs"))
    assert "experiment/imagenet/main.py" in line
