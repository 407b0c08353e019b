"""A run beside the published one: each number, what differs, and every stage of a run."""

import json

import pytest

from experiment.cifar import main as cifar
from experiment.dvs import main as dvs
from experiment.imagenet import main as imagenet
from experiment.trained.part.published import PUBLISHED, recipe_differences
from experiment.trained.part.recorded_run import read_run
from experiment.trained.track import main
from tests.support.recorded import record_of, sparsely, write_run

PAPER = {  # the commands of docs/reproduce.md
    "CIFAR10": (cifar, "--dataset CIFAR10 --auto_aug --cutout --wd 5e-4 --decay 0.2 --T 6"),
    "CIFAR100": (cifar, "--dataset CIFAR100 --auto_aug --cutout --wd 5e-4 --decay 0.2 --T 6"),
    "imagenet": (imagenet, "--dataset imagenet --auto_aug --cutout --wd 2e-5 --alp 0.7 --T 4"),
    "CIFAR10_DVS": (dvs, "--data_path data --split published"),
}
OWN = {  # what lies on the disk decides which of their flags have an effect
    "Folder": (cifar, "--dataset Folder --data_path data"),
    "Recordings": (dvs, "--dataset Recordings --data_path data"),
}


def run_of(folder, dataset, *more, records=()):
    experiment, flags = (PAPER | OWN)[dataset]
    return write_run(folder, *flags.split(), *more, experiment=experiment, records=records)


@pytest.mark.parametrize("dataset", PAPER)
def test_the_commands_of_the_paper_are_its_recipe(tmp_path, dataset):
    assert recipe_differences(read_run(run_of(tmp_path / "run", dataset)).arguments) == []


@pytest.mark.parametrize(
    ("dataset", "more", "different"),
    [
        ("CIFAR100", "--lr 0.2 --num_workers 0", ["lr 0.2 (published: 0.1)"]),
        ("CIFAR100", "--crop --no-flip", ["flip False (published: True)"]),
        ("CIFAR100", "--no-cutout", ["cutout False (published: True)"]),
        ("CIFAR100", "--method rate --alp 3", ["method 'rate' (published: 'esd')"]),  # no branches
        ("CIFAR100", "--width 8", ["width 8 (published: 'paper')"]),
        ("imagenet", "--no-auto_aug", []),  # which only --imagenet_aug applies
        ("imagenet", "--imagenet_aug --no-cutout", ["auto_aug True", "imagenet_aug True"]),
        ("CIFAR10_DVS", "--split tebn", ["split 'tebn' (published: 'published')"]),
        ("Folder", "--lr 0.2", ["lr 0.2 (published: 0.1)"]),
        ("Recordings", "--lr 0.2", ["lr 0.2 (published: 0.1)"]),
    ],
)
def test_only_what_has_an_effect_differs(tmp_path, dataset, more, different):
    found = recipe_differences(read_run(run_of(tmp_path / "r", dataset, *more.split())).arguments)
    assert len(found) == len(different)
    assert all(text.startswith(words) for text, words in zip(found, different, strict=True))


def test_a_run_in_progress_is_compared_as_far_as_it_is(tmp_path, capsys):
    records = [record_of(epoch, top1=8.0 + epoch) for epoch in range(12)]
    rows = main([run_of(tmp_path / "run", "CIFAR100", records=records)])
    assert rows[:4] == [
        ("0", "6.1", "8.0", "+1.9"),
        ("1", "12.0", "9.0", "-3.0"),
        ("9", "32.1", "17.0", "-15.1"),
        ("19", "36.6", "", ""),
    ]
    assert rows[-1] == ("best of 300", "80.2", "19.0 so far", "")
    said = capsys.readouterr().out
    assert "run: 12 of 300 epochs, interrupted" in said
    assert "the flags are those of the paper's recipe" in said and "schedules" not in said
    assert (tmp_path / "run" / "track.png").read_bytes().startswith(b"\x89PNG")


def test_epochs_without_an_evaluation_are_empty(tmp_path):
    records = sparsely([record_of(epoch, top1=8.0 + epoch) for epoch in range(12)], 5)
    rows = main([run_of(tmp_path / "run", "CIFAR100", records=records)])
    assert rows[:3] == [("0", "6.1", "", ""), ("1", "12.0", "", ""), ("9", "32.1", "17.0", "-15.1")]
    assert rows[-1] == ("best of 300", "80.2", "19.0 so far", "")
    rows = main([run_of(tmp_path / "begun", "CIFAR100", records=records[:3])])
    assert {row[2:] for row in rows} == {("", "")}


def test_another_schedule_is_said_and_the_picture_goes_where_it_is_asked_for(tmp_path, capsys):
    flags = ["--num_epoch", "2"]
    run = run_of(tmp_path / "run", "imagenet", *flags, records=[record_of(0), record_of(1)])
    rows = main([run, "--out", tmp_path / "new"])
    assert rows[-1] == ("best of 100", "70.7", "43.0", "-27.7")
    said = capsys.readouterr().out
    assert "2 of 2 epochs, finished" in said and "so far" not in said
    assert "falls to 0 over 2 epochs here, over 100 there" in said
    assert "- num_epoch 2 (published: 100)" in said
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["track.png"]
    assert not (run / "track.png").exists()


def test_a_data_set_without_a_published_curve_says_which_have_one(tmp_path, capsys):
    run = run_of(tmp_path / "run", "CIFAR10", "--T", "2", records=[record_of(0)])
    assert main([run]) == []
    said = capsys.readouterr().out
    assert "no published curve for CIFAR10, only for CIFAR100, imagenet" in said
    assert said.endswith("- T 2 (published: 6)\n")
    assert not (run / "track.png").exists()


def test_what_an_earlier_version_did_not_know_had_its_default(tmp_path):
    run = run_of(tmp_path / "run", "CIFAR100", "--lr", "0.2", records=[record_of(0)])
    config = json.loads((run / "config.json").read_bytes())
    for part in config.values():
        del part["tf32"], part["thresh"]
    (run / "config.json").write_text(json.dumps(config))
    assert recipe_differences(read_run(run).arguments) == ["lr 0.2 (published: 0.1)"]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda run: None, "run has no complete epoch yet"),
        (lambda run: (run / "config.json").unlink(), "run has no config.json of a run"),
        (lambda run: (run / "config.json").write_text("{"), "config.json is damaged"),
        (lambda run: (run / "metrics.jsonl").write_text("{}\n"), "run is damaged"),
        (lambda run: (run / "metrics.jsonl").write_text("{\n"), "run is damaged"),
    ],
)
def test_a_folder_without_a_run_is_refused_in_one_sentence(tmp_path, capsys, damage, sentence):
    run = run_of(tmp_path / "run", "CIFAR100")
    damage(run)
    with pytest.raises(SystemExit) as end:
        main([run])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1


def test_published_curves_are_those_of_the_recipes_epochs():
    for dataset, published in PUBLISHED.items():
        experiment, _ = PAPER[dataset]
        args = experiment.get_parser().parse_args(["--dataset", dataset])
        assert args.num_epoch == published.num_epoch > max(published.top1)
        assert list(published.top1) == sorted(published.top1)
        assert max(published.top1.values()) < published.best
