"""A run that was interrupted ends as one that was not, whatever it was resumed from."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.fault import micro_run
from benchmark.fault.damage import ending
from experiment import engine
from experiment.cifar.config.config import get_parser
from experiment.recorder import Recorder, locked
from experiment.resume import matching_run
from experiment.training_state import LATER_SWITCHES
from util.checkpoint import load_checkpoint, save_checkpoint

ARGUMENTS = (*micro_run.ARGUMENTS, "--num_epoch", "2")


class Interruption(Exception):
    """What stands in for the end of the process; tests of real kills are in benchmark/faults.py."""


def command(log_path, *more):
    return [*ARGUMENTS, "--log_path", str(log_path), *more]


def folder_of(log_path):
    (folder,) = micro_run.run_folders(log_path)
    return folder


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    log_path = tmp_path_factory.mktemp("unbroken")
    micro_run.main(command(log_path))
    return folder_of(log_path)


@pytest.fixture
def copied(unbroken, tmp_path):
    """A copy of the finished run's folder."""
    return shutil.copytree(unbroken, tmp_path / "runs" / unbroken.name)


def interrupt_after(monkeypatch, which):
    """Raise after the step `which` of the run, before anything of it is saved."""
    step = engine.refuse_non_finite
    steps = iter(range(1000))

    def interrupted(*args):
        if next(steps) == which:
            raise Interruption
        return step(*args)

    monkeypatch.setattr(engine, "refuse_non_finite", interrupted)


@pytest.mark.parametrize(
    ("which", "begin_with", "go_on_with"),
    [(1, "0", "0"), (3, "0", "2"), (5, "2", "0"), (7, "1", "2")],
)
def test_interrupted_and_resumed_equals_unbroken(
    which, begin_with, go_on_with, unbroken, tmp_path, monkeypatch
):
    interrupt_after(monkeypatch, which)
    with pytest.raises(Interruption):
        micro_run.main(command(tmp_path, "--num_workers", begin_with))
    monkeypatch.undo()
    result = micro_run.main(command(tmp_path, "--resume", "auto", "--num_workers", go_on_with))
    assert result["folder"] == str(folder_of(tmp_path))
    assert micro_run.outcome(folder_of(tmp_path)) == micro_run.outcome(unbroken)


def test_a_record_without_its_checkpoint_is_cut_off(unbroken, tmp_path, monkeypatch):
    """Killed between the two: metrics.jsonl knows an epoch that the checkpoint does not."""
    save = Recorder.save

    def failing(self, state, group, *, is_best=False):
        if state.batch == 0:
            raise Interruption
        save(self, state, group, is_best=is_best)

    monkeypatch.setattr(Recorder, "save", failing)
    with pytest.raises(Interruption):
        micro_run.main(command(tmp_path))
    monkeypatch.undo()
    folder = folder_of(tmp_path)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    assert load_checkpoint(folder / "last.pt")["lines"] == 0
    (folder / "metrics.jsonl").open("a").write('{"torn')
    micro_run.main(command(tmp_path, "--resume", "auto"))
    assert micro_run.outcome(folder) == micro_run.outcome(unbroken)


def test_a_named_checkpoint_goes_on_in_its_own_folder(unbroken, copied, tmp_path):
    (copied / "last.pt").unlink()
    result = micro_run.main(command(tmp_path / "elsewhere", "--resume", str(copied / "last-1.pt")))
    assert result["folder"] == str(copied)
    assert not (tmp_path / "elsewhere").exists()
    assert micro_run.outcome(copied) == micro_run.outcome(unbroken)


def test_a_finished_run_is_not_trained_again(copied):
    before = (copied / "last.pt").stat().st_mtime_ns
    result = micro_run.main(command(copied.parent, "--resume", "auto"))
    assert (result["folder"], result["epochs"]) == (str(copied), 2)
    assert (copied / "last.pt").stat().st_mtime_ns == before


def test_without_an_earlier_run_auto_begins_a_new_one(copied):
    result = micro_run.main(command(copied.parent, "--resume", "auto", "--seed", "1"))
    assert result["folder"] != str(copied)
    log = (Path(result["folder"]) / "train.log").read_text()
    assert "--resume auto: no checkpoint of a run with these arguments yet" in log


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.unlink()  # it may share its content with another name
    path.write_bytes(content)


@pytest.mark.parametrize("bad", [["last.pt"], ["last.pt", "last-1.pt"]])
def test_a_bad_newest_checkpoint_is_reported_and_an_earlier_one_used(bad, unbroken, copied):
    for name in bad:
        damage(copied / name)
    code, text = ending(command(copied.parent, "--resume", "auto"))
    assert code == 0
    for name in bad:
        assert re.search(rf"checkpoint \S+/{name} is damaged", text)
    used = "last-1.pt" if bad == ["last.pt"] else "best.pt"
    assert f"going on from {copied / used}" in text
    assert micro_run.outcome(copied) == micro_run.outcome(unbroken)


def test_without_any_good_checkpoint_nothing_is_overwritten(copied):
    for path in copied.glob("*.pt"):
        damage(path)
    before = (copied / "metrics.jsonl").read_bytes()
    code, text = ending(command(copied.parent, "--resume", "auto"))
    assert code == 2
    assert "error: none of the checkpoints can be used" in text
    assert (copied / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("changed", ["--T 3", "--arch resnet19", "--lr 0.2", "--method rate"])
def test_other_arguments_are_refused_by_name(changed, copied):
    before = micro_run.outcome(copied)
    code, text = ending(
        command(copied.parent, "--resume", str(copied / "last.pt"), *changed.split())
    )
    assert code == 2
    name, value = changed[2:].split()
    assert re.search(rf"error: checkpoint \S+last.pt does not fit: .*{name} .*{value}", text)
    assert micro_run.outcome(copied) == before


def test_missing_or_damaged_records_are_refused(copied):
    metrics = copied / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    for content, complaint in (
        (lines[0] + "\n", "holds 1 whole lines"),
        (lines[0][1:] + "\n" + lines[1] + "\n", "is damaged"),
    ):
        metrics.write_text(content)
        code, text = ending(command(copied.parent, "--resume", "auto"))
        assert code == 2
        assert str(metrics) in text and complaint in text


def test_a_run_in_progress_is_not_resumed_by_another(copied):
    with locked(copied):
        code, text = ending(command(copied.parent, "--resume", "auto"))
    assert code == 2
    assert f"another process is training in {copied}" in text


def test_folders_that_are_not_runs_are_passed_over(unbroken, tmp_path):
    for name, content in (("a", "{"), ("b", "[1]"), ("c", '{"identity": 3}'), ("d", "\udcff")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    micro_run.main(command(tmp_path, "--resume", "auto"))
    assert len(list(tmp_path.iterdir())) == 5


def test_a_checkpoint_outside_a_run_folder_gives_initial_weights(unbroken, tmp_path):
    loose = shutil.copy(unbroken / "best.pt", tmp_path / "weights.pt")
    result = micro_run.main(command(tmp_path / "runs", "--resume", str(loose), "--lr", "1e-30"))
    first = load_checkpoint(loose)["model"]
    trained = load_checkpoint(Path(result["folder"]) / "last.pt")
    assert trained["epoch"] == 2  # from the beginning
    assert torch.equal(trained["model"]["stem.conv.weight"], first["stem.conv.weight"])


def test_another_checkpoint_in_the_folder_of_a_run_must_be_a_state(copied):
    save_checkpoint({"model": {}}, copied / "odd.pt")
    code, text = ending(command(copied.parent, "--resume", str(copied / "odd.pt")))
    assert code == 2
    assert "odd.pt does not fit: it is no state of a training run" in text


def change_data(monkeypatch, **changes):
    """Of what micro_run trains on: other class names, or numbers of images."""
    for name in {"TRAINING_IMAGES", "TEST_IMAGES"} & changes.keys():
        monkeypatch.setattr(micro_run, name, changes.pop(name))
    few = micro_run.few_images
    monkeypatch.setattr(micro_run, "few_images", lambda data: replace(few(data), **changes))


@pytest.mark.parametrize("flag", ["--resume", "--evaluate"])
@pytest.mark.parametrize("place", ["last.pt", "../loose.pt"])
def test_data_of_other_classes_are_refused(flag, place, copied, monkeypatch):
    path = copied / place
    if not path.exists():
        shutil.copy(copied / "last.pt", path)
    known = load_checkpoint(path)["data"]["class_names"]
    change_data(monkeypatch, class_names=(*known[:3], "zebra", *known[4:]))
    code, text = ending(command(copied.parent, flag, str(path)))
    assert code == 2
    assert f"{path} does not fit: it was trained on 10 classes ({str(known)[1:-1]})" in text
    assert f"class 3 is {known[3]!r} to it and 'zebra' in the data" in text
    if flag == "--evaluate":
        assert text.strip().endswith("trained on with --data_path")
    elif place == "last.pt":
        assert "begin a new run without --resume" in text
    else:
        assert "begin with its weights all the same with --changed_data" in text
        code, text = ending(command(copied.parent, flag, str(path), "--changed_data"))
        assert code == 0 and "initial weights of a new run" in text


def test_another_number_of_training_samples_is_refused_unless_allowed(copied, monkeypatch):
    (copied / "last.pt").unlink()
    (copied / "last-1.pt").rename(copied / "last.pt")  # in the middle of the second epoch
    before = load_checkpoint(copied / "last.pt")
    assert before["batch"] > 0
    change_data(monkeypatch, TRAINING_IMAGES=20)
    again = command(copied.parent, "--resume", "auto")
    code, text = ending(again)
    assert code == 2
    assert "saved with 28 training samples, by now there are 20: bring" in text
    code, text = ending([*again, "--changed_data"])
    assert code == 0
    assert f"epoch {before['epoch']} begins anew" in text
    assert f"{copied / 'last.pt'}: epoch {before['epoch']}, step 0" in text
    state = load_checkpoint(copied / "last.pt")
    assert (state["epoch"], state["lines"]) == (2, 2)
    assert state["data"]["training_samples"] == 20


def test_another_number_of_test_samples_is_told(copied, monkeypatch):
    change_data(monkeypatch, TEST_IMAGES=11)
    code, text = ending(command(copied.parent, "--resume", "auto"))
    assert code == 0
    assert "saved with 12 test samples, by now there are 11" in text


def test_a_checkpoint_that_says_nothing_of_its_data_goes_on_unchecked(copied, monkeypatch):
    for path in copied.glob("*.pt"):
        state = load_checkpoint(path)
        del state["data"]
        path.unlink()
        save_checkpoint(state, path)
    change_data(monkeypatch, TRAINING_IMAGES=20, class_names=tuple("abcdefghij"))
    for flags in (("--resume", "auto"), ("--evaluate", str(copied / "last.pt"))):
        assert ending(command(copied.parent, *flags))[0] == 0


def test_switches_that_the_program_has_got_since_were_at_their_defaults(copied):
    path = copied / "config.json"
    config = json.loads(path.read_text())
    del config["identity"]["sparse"]
    path.write_text(json.dumps(config))
    assert matching_run(copied.parent, config["identity"] | {"sparse": False}) == copied
    assert matching_run(copied.parent, config["identity"] | {"sparse": True}) is None
    for name, value in LATER_SWITCHES.items():
        assert get_parser().get_default(name) is value


def test_the_newest_of_equal_runs_goes_on(copied, tmp_path):
    older = shutil.copytree(copied, copied.parent / "older")
    os.utime(older / "config.json", (1, 1))
    result = micro_run.main(command(copied.parent, "--resume", "auto"))
    assert result["folder"] == str(copied)
    assert json.loads((older / "config.json").read_text())["identity"]["seed"] == 60
