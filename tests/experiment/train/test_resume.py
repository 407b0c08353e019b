"""What a run goes on from: its newest state, a named one, initial weights; and what is refused."""

import json
import os
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from experiment.train.folder import bring_up_to_date, locked
from experiment.train.recorder import Recorder
from experiment.train.resume import choose_start
from experiment.train.update import Update
from tests.fault import micro_run
from tests.fault.micro_run import ending, outcome
from tests.support.damage import damage_file
from tests.support.finished_run import command, refusal, run
from tests.support.interrupted_run import Interruption, interrupted_run, stop_after
from util.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn")


def resumed(copied, *more):
    """Exit code and output of the command that goes on with the run there."""
    return ending(command(copied.parent, "--resume", "auto", *more))


def test_a_record_without_its_checkpoint_is_cut_off(finished, tmp_path):
    """Killed between the two: metrics.jsonl knows an epoch that the checkpoint does not."""
    save = Recorder.save

    def failing(self, state, group, *, is_best=False):
        if state.batch == 0:
            raise Interruption
        save(self, state, group, is_best=is_best)

    folder = interrupted_run(tmp_path, Recorder, "save", failing)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    assert load_checkpoint(folder / "last.pt")["lines"] == 0
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"torn')
    run(tmp_path, "--resume", "auto")
    assert outcome(folder) == outcome(finished.folder)


def test_a_named_checkpoint_goes_on_in_its_own_folder(finished, copied, tmp_path):
    (copied / "last.pt").unlink()
    again = run(tmp_path / "elsewhere", "--resume", str(copied / "last-1.pt"))
    assert again.folder == copied
    assert not (tmp_path / "elsewhere").exists()
    assert outcome(copied) == outcome(finished.folder)


def test_the_newest_of_equal_runs_goes_on_and_is_not_trained_again(copied, finished):
    older = shutil.copytree(copied, copied.parent / "older")
    os.utime(older / "config.json", (1, 1))
    before = (copied / "last.pt").stat().st_mtime_ns
    again = run(copied.parent, "--resume", "auto")
    assert again == (copied, finished.result | {"folder": str(copied)})
    assert (copied / "last.pt").stat().st_mtime_ns == before


def test_without_an_earlier_run_auto_begins_a_new_one(copied, capsys):
    """Folders that are none of ours are passed over, and named if that cannot be known."""
    for name, content in (("a", b"{"), ("b", b"[1]"), ("c", b'{"identity": 3}'), ("d", b"\xff")):
        (copied.parent / name).mkdir()
        (copied.parent / name / "config.json").write_bytes(content)
    folder, _ = run(copied.parent, "--resume", "auto", "--seed", "1", "--num_epoch", "1")
    assert folder != copied and folder.parent == copied.parent
    log = (folder / "train.log").read_text()
    assert "--resume auto: no checkpoint of a run with these arguments yet" in log
    warned = capsys.readouterr().err
    named = [name for name in "abcd" if f"{copied.parent / name}/config.json is damaged" in warned]
    assert named == ["a", "d"]


def test_a_run_whose_config_is_damaged_is_not_begun_anew(copied):
    (copied / "config.json").write_text("garbage{")
    code, text = ending(command(copied.parent, "--resume", str(copied / "last.pt")))
    assert code == 2 and f"{copied}/config.json is damaged" in text
    assert list(copied.parent.iterdir()) == [copied]


def test_a_run_begun_before_a_flag_did_what_is_its_default(copied):
    path = copied / "config.json"
    config = json.loads(path.read_text())
    del config["identity"]["sparse"]
    path.write_text(json.dumps(config))
    for sparse, found in ((False, copied), (True, None)):
        identity = config["identity"] | {"sparse": sparse}
        request = SimpleNamespace(resume="auto", log_path=copied.parent, identity=identity)
        assert choose_start(request).folder == found


def test_bad_checkpoints_are_reported_and_the_best_one_used(finished, copied):
    bad = [copied / "last.pt", copied / "last-1.pt"]
    for path in bad:
        damage_file(path)
    code, text = resumed(copied)
    assert code == 0
    assert all(f"checkpoint {path} is damaged" in text for path in bad)
    assert f"going on from {copied / 'best.pt'}" in text
    assert outcome(copied) == outcome(finished.folder)


def test_without_any_good_checkpoint_nothing_is_overwritten(copied):
    for path in copied.glob("*.pt"):
        damage_file(path)
    before = (copied / "metrics.jsonl").read_bytes()
    assert "none of the checkpoints can be used" in refusal(copied.parent, "--resume", "auto")
    assert (copied / "metrics.jsonl").read_bytes() == before


# Of a file in the folder of a run, or outside of any; what it was asked for, what is said.
ANOTHER = """
in  | --resume   | --T 3           | T 2 (asked for: 3)
in  | --resume   | --lr 0.2        | lr 0.1 (asked for: 0.2)
in  | --resume   | --method rate   | method 'esd' (asked for: 'rate')
in  | --evaluate | --dataset Digits | dataset 'FakeData' (asked for: 'Digits')
in  | --evaluate | --decay 0.5     | decay 0.2 (asked for: 0.5)
out | --evaluate | --v_reset 0     | v_reset none (asked for: 0.0)
"""


@pytest.mark.parametrize("row", ANOTHER.strip().splitlines())
def test_a_checkpoint_of_another_run_or_network_is_refused(row, copied, tmp_path):
    place, flag, changed, words = (part.strip() for part in row.split("|"))
    path = copied / "last.pt"
    if place == "out":
        path = shutil.copy(path, tmp_path)
    before = outcome(copied)
    sentence = refusal(copied.parent, flag, str(path), *changed.split())
    assert re.match(rf"error: checkpoint {path} does not fit: .*{re.escape(words)}", sentence)
    assert outcome(copied) == before


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("runs", "holds the weights of another network"),
        ("copied", "it is no state of a training run"),
    ],
)
def test_a_file_that_is_no_state_of_this_run_is_refused(place, words, copied, tmp_path):
    odd = (copied if place == "copied" else tmp_path) / "odd.pt"
    save_checkpoint({"model": {}}, odd)
    assert words in refusal(copied.parent, "--resume", str(odd))


def test_missing_or_damaged_records_are_refused(copied):
    metrics = copied / "metrics.jsonl"
    first, second = metrics.read_text().splitlines()
    for content, complaint in (
        (f"{first}\n", "holds 1 whole lines"),
        (f"{first[1:]}\n{second}\n", "is damaged"),
    ):
        metrics.write_text(content)
        sentence = refusal(copied.parent, "--resume", "auto")
        assert str(metrics) in sentence and complaint in sentence


def test_a_run_in_progress_is_not_resumed_by_another(copied):
    with locked(copied):
        sentence = refusal(copied.parent, "--resume", "auto")
    assert f"another process is training in {copied}" in sentence


def test_a_checkpoint_outside_a_run_folder_gives_initial_weights(finished, tmp_path):
    loose = shutil.copy(finished.folder / "best.pt", tmp_path / "weights.pt")
    folder, _ = run(tmp_path / "runs", "--resume", str(loose), "--lr", "1e-30")
    first, trained = load_checkpoint(loose)["model"], load_checkpoint(folder / "last.pt")
    assert trained["epoch"] == 2  # from the beginning
    assert torch.equal(trained["model"]["stem.conv.weight"], first["stem.conv.weight"])


def initial_lines(folder):
    return [line for line in (folder / "train.log").read_text().splitlines() if "--init " in line]


def test_a_run_begins_with_initial_weights_once(finished, tmp_path):
    """While it has no checkpoint; later the file need not be there."""
    loose, runs = (
        shutil.copy(finished.folder / "best.pt", tmp_path / "weights.pt"),
        tmp_path / "runs",
    )
    flags = ("--init", str(loose), "--resume", "auto", "--lr", "1e-3")
    update = Update.__call__
    folder = interrupted_run(runs, Update, "__call__", stop_after(1), *flags)
    assert not list(folder.glob("*.pt"))
    folder = interrupted_run(runs, Update, "__call__", stop_after(3, update), *flags)
    assert len(initial_lines(folder)) == 2 and "of 68 of 68 layers" in initial_lines(folder)[1]
    os.unlink(loose)
    again = run(runs, *flags)
    assert again.folder == folder and len(initial_lines(folder)) == 2
    assert "--init: " in refusal(tmp_path, "--init", str(loose))


@pytest.mark.parametrize(
    ("changes", "more", "other"),
    [
        ({"num_epoch": 5}, " --num_epoch 5", "num_epoch 2 (asked for: 5)"),
        ({"num_epoch": 1}, "", "num_epoch 2 (asked for: 1)"),  # extended meanwhile
        ({"init": "/moved.pt"}, "", "init none (asked for: '/moved.pt')"),
        ({"num_epoch": 5, "lr": 3.0}, None, None),
    ],
)
def test_auto_says_how_to_go_on_with_a_run_that_may_be_meant(changes, more, other, copied):
    identity = json.loads((copied / "config.json").read_text())["identity"] | changes
    request = SimpleNamespace(resume="auto", log_path=copied.parent, identity=identity)
    start = choose_start(request)
    assert start.folder is None
    (line,) = start.beginning
    end = (
        ""
        if more is None
        else f"; --resume {copied / 'last.pt'}{more} goes on with one that has {other}"
    )
    assert line.endswith(f"training from the beginning{end}")


def change_data(monkeypatch, **changes):
    """Of what micro_run trains on: other class names, or numbers of images."""
    for name in {"TRAINING_IMAGES", "TEST_IMAGES"} & changes.keys():
        monkeypatch.setattr(micro_run, name, changes.pop(name))
    few = micro_run.few_images
    monkeypatch.setattr(micro_run, "few_images", lambda data: replace(few(data), **changes))


@pytest.mark.parametrize(
    ("flag", "place", "way_out"),
    [
        ("--evaluate", "last.pt", "trained on with --data_path"),
        ("--resume", "last.pt", "begin a new run without --resume"),
    ],
)
def test_data_of_other_classes_are_refused(flag, place, way_out, copied, monkeypatch):
    path = copied / place
    known = load_checkpoint(path)["data"]["class_names"]
    change_data(monkeypatch, class_names=(*known[:3], "zebra", *known[4:]))
    sentence = refusal(copied.parent, flag, str(path))
    assert f"{path} does not fit: it was trained on 10 classes ({str(known)[1:-1]})" in sentence
    assert f"class 3 is {known[3]!r} to it and 'zebra' in the data" in sentence
    assert way_out in sentence


def test_another_number_of_training_samples_is_refused_unless_allowed(copied, monkeypatch):
    (copied / "last.pt").unlink()
    (copied / "last-1.pt").rename(copied / "last.pt")  # in the middle of the second epoch
    before = load_checkpoint(copied / "last.pt")
    assert before["batch"] > 0
    change_data(monkeypatch, TRAINING_IMAGES=20, TEST_IMAGES=11)
    sentence = refusal(copied.parent, "--resume", "auto")
    assert "saved with 28 training samples, by now there are 20: bring" in sentence
    code, text = resumed(copied, "--changed_data")
    assert code == 0
    assert "saved with 12 test samples, by now there are 11" in text
    assert f"epoch {before['epoch']} begins anew" in text
    assert f"{copied / 'last.pt'}: epoch {before['epoch']}, step 0" in text
    state = load_checkpoint(copied / "last.pt")
    assert (state["epoch"], state["lines"]) == (2, 2)
    assert state["data"]["training_samples"] == 20


def test_a_checkpoint_that_says_nothing_of_its_data_goes_on_unchecked(copied, monkeypatch):
    for path in copied.glob("*.pt"):
        state = load_checkpoint(path)
        del state["data"]
        path.unlink()
        save_checkpoint(state, path)
    change_data(monkeypatch, TRAINING_IMAGES=20, class_names=tuple("abcdefghij"))
    for flags in (("--resume", "auto"), ("--evaluate", str(copied / "last.pt"))):
        assert ending(command(copied.parent, *flags))[0] == 0


def test_a_run_that_goes_on_says_where_its_data_lie_by_now(tmp_path):
    path, state = tmp_path / "config.json", SimpleNamespace(arguments={"num_epoch": 2}, epoch=1)
    config = {"arguments": {"data_path": "/old", "lr": 1, "num_epoch": 2}, "identity": {}}
    config["identity"] |= state.arguments
    path.write_text(json.dumps(config))
    bring_up_to_date(path, {"data_path": "/new", "lr": 3}, state)
    assert json.loads(path.read_text()) == {
        "arguments": {"data_path": "/new", "lr": 1, "num_epoch": 2},
        "identity": {"num_epoch": 2},
    }
