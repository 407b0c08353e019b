"""The predict command: its answers against the network, early exit, and files that are none."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pytest
import torch
from torchvision.io import write_png

from experiment.cifar import main as cifar
from experiment.trained.part.exported import Exported, describe_network, write_weights
from experiment.trained.part.input_file import wanted_suffixes
from experiment.trained.part.prediction import FORMS, Guess, Prediction
from experiment.trained.predict import load_network, main, predict
from model import build_model
from model.inference import early_exit
from model.inference.fold import fold
from model.inference.skipping import ByteNeurons
from tests.support.event_files import aedat2, count_events, random_events
from tests.support.trained_run import CPU, first_samples, stir
from util.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def pictures(trained, tmp_path_factory):
    """A folder with the first five test images."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(5):
        write_png(trained.data.test[i][0], str(folder / f"{i}.png"))
    return folder


def write_export(trained, path):
    description = describe_network(trained.arguments, trained.description)
    write_weights(fold(trained.net), description, path)


@torch.no_grad()
def test_answers_are_those_of_the_trained_network(trained, pictures, capsys):
    answers = main([trained.path, pictures, "--device", "cpu"])
    probabilities = trained.net(first_samples(trained, 5)[0]).softmax(1)
    assert [int(answer.label) for answer in answers] == probabilities.argmax(1).tolist()
    confidences = torch.tensor([answer.confidence for answer in answers])
    torch.testing.assert_close(confidences, probabilities.max(1).values, atol=1e-5, rtol=1e-5)
    assert {answer.steps for answer in answers} == {3}
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5 and printed[0].endswith("of 3 steps")


@pytest.mark.parametrize("flags", [["--sparse"], ["--no-sparse"], []])
def test_silent_inputs_are_skipped_as_asked_for(flags, trained, pictures, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "experiment.trained.predict.answer",
        lambda net, x, confidence: (
            seen.append(net) or early_exit.answer(net, x, confidence=confidence)
        ),
    )
    main([trained.path, pictures / "0.png", "--device", "cpu", *flags])
    skips = [isinstance(neurons, ByteNeurons) for neurons in seen[0].neurons()]
    assert set(skips) == {flags != ["--no-sparse"]}


def test_it_stops_at_the_first_step_above_the_confidence(trained, pictures):
    network, path = load_network(trained.path, CPU), pictures / "0.png"
    levels = []
    for steps in (1, 2, 3):
        shorter = fold(trained.net)
        shorter.T = steps
        level = predict(network._replace(net=shorter), path, confidence=1.0, device=CPU)
        levels.append(level._replace(T=network.net.T))
    for level in (0.0, levels[0].confidence - 1e-6, max(a.confidence for a in levels) + 1e-6):
        expected = next((a for a in levels if a.confidence > level), levels[-1])
        assert predict(network, path, confidence=level, device=CPU) == expected


@torch.no_grad()
def test_other_programs_read_the_most_probable_classes_in_json_and_csv(trained, pictures, capsys):
    """And stdout holds nothing else, also where a file is skipped."""
    probabilities = trained.net(first_samples(trained, 2)[0]).softmax(1)
    values, classes = probabilities.sort(1, descending=True)
    paths = [str(pictures / f"{i}.png") for i in range(2)]
    printed = {}
    for form in ("json", "csv"):
        command = [trained.path, *paths, pictures / "none.png", "--top", 3, "--format", form]
        with pytest.raises(SystemExit):
            main([*command, "--device", "cpu"])
        printed[form] = capsys.readouterr().out
    answers = [json.loads(line) for line in printed["json"].splitlines()]
    rows = list(csv.DictReader(io.StringIO(printed["csv"])))
    assert [(a["file"], a["steps"], a["T"]) for a in answers] == [(path, 3, 3) for path in paths]
    for answer, ranked, best in zip(answers, values, classes, strict=True):
        found = torch.tensor([guess["confidence"] for guess in answer["classes"]])
        torch.testing.assert_close(found, ranked[:3], atol=1e-5, rtol=1e-5)
        assert [int(guess["class"]) for guess in answer["classes"]] == best[:3].tolist()
    flat = [(a["file"], g["class"], g["confidence"]) for a in answers for g in a["classes"]]
    assert [(r["file"], r["class"], float(r["confidence"])) for r in rows] == flat
    assert [(r["rank"], r["steps"], r["T"]) for r in rows] == 2 * [(k, "3", "3") for k in "123"]


def test_any_name_comes_back_from_json_and_csv():
    path = os.fsdecode(b'a, "b"\n\xe9.png')
    answer = Prediction(path, (Guess("c\n,d", 0.5), Guess("é", 0.25)), 1, 2)
    (line,) = FORMS["json"].text_of(answer).splitlines()
    assert json.loads(line)["file"] == path
    text = FORMS["csv"].head + FORMS["csv"].text_of(answer)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["file"], row["class"]) for row in rows] == [(path, "c\n,d"), (path, "é")]
    assert (
        FORMS["text"].text_of(answer).endswith(", confidence 0.500, 1 of 2 steps; then é (0.250)\n")
    )


def test_an_export_answers_like_its_checkpoint_whatever_the_files_are_called(
    trained, pictures, tmp_path, capsys
):
    write_export(trained, tmp_path / "best.pt")
    shutil.copy(trained.path, tmp_path / "model.safetensors")
    expected = main([trained.path, pictures])
    for name in ("best.pt", "model.safetensors"):
        assert main([tmp_path / name, pictures]) == expected
    assert capsys.readouterr().err == ""
    main([tmp_path / "best.pt", pictures, "--data_path", "somewhere"])
    assert "no effect of --data_path: the network knows its classes" in capsys.readouterr().err


def test_a_checkpoint_answers_with_the_names_it_knows_and_needs_no_data(
    checkpoint, pictures, tmp_path, monkeypatch, capsys
):
    state = load_checkpoint(checkpoint)
    names = [f"digit {name}" for name in state["data"]["class_names"]]
    save_checkpoint(state | {"data": state["data"] | {"class_names": names}}, tmp_path / "x.pt")
    save_checkpoint({k: v for k, v in state.items() if k != "data"}, tmp_path / "older.pt")
    plain, older = (main([path, pictures]) for path in (checkpoint, tmp_path / "older.pt"))
    assert older == plain
    monkeypatch.setattr(cifar, "data_of", lambda args: pytest.fail("the data set was read"))
    capsys.readouterr()
    answers = main([tmp_path / "x.pt", pictures, "--data_path", "nowhere"])
    assert [answer.label for answer in answers] == [f"digit {answer.label}" for answer in plain]
    assert capsys.readouterr().err.startswith("warning: no effect of --data_path: the network")


def test_unreadable_files_are_named_and_skipped_and_the_rest_is_answered(
    checkpoint, pictures, tmp_path, capsys
):
    whole = (pictures / "0.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    bad = [tmp_path / name for name in ("torn.png", "text.jpg", "empty.png", "none.png", "x.aedat")]
    with pytest.raises(SystemExit) as end:
        main([checkpoint, *bad[:3], pictures / "0.png", *bad[3:]])
    assert end.value.code == 1
    printed = capsys.readouterr()
    assert printed.out.count("confidence") == 1
    assert all(f"skipped {path}: " in printed.err for path in bad)
    assert printed.err.strip().endswith("5 of 6 files skipped")


def test_event_recordings_are_classified_like_their_frames(tmp_path, capsys):
    torch.manual_seed(0)
    net = stir(build_model("resnet18", num_classes=3, in_channels=2, T=4, width=2)).eval()
    description = {"kind": "events", "class_names": ["a", "b", "c"], "image_size": 48}
    network, events = Exported(fold(net), description), random_events(4001, seed=0)
    special = bytes([0, 0, 0x80, 0, 0, 0, 0, 0])
    (tmp_path / "x.aedat").write_bytes(aedat2(events) + 2 * special)
    np.savez(tmp_path / "x.npz", frames=count_events(events, 4))
    paths = [tmp_path / "x.npz", tmp_path / "x.aedat"]
    one, other = (predict(network, path, confidence=1.0, device=CPU) for path in paths)
    assert one[1:] == other[1:]
    said = capsys.readouterr().err
    assert said == f"{paths[1]}: 2 special events, of no pixel, are left out\n"
    assert wanted_suffixes(network) == (".aedat", ".npz", ".npy", ".aedat4")
