"""The evaluate command: its numbers against single images, processes, files and errors."""

import json

import pytest
import torch

from experiment.evaluation import evaluate as evaluate_in_training
from experiment.trained import energy, look_inside
from experiment.trained import evaluate as evaluation
from experiment.trained.checkpoint import load_trained
from experiment.trained.evaluate import evaluate, main
from model import build_model
from tests.support.processes import run_processes
from tests.support.trained_run import evaluate_share, make_checkpoint
from util.distributed import Group

CPU = Group(0, 1, torch.device("cpu"))
IMAGES = 45


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def result(checkpoint):
    return evaluate(load_trained(checkpoint, CPU.device), images=IMAGES, batch_size=32, group=CPU)


def test_it_agrees_with_the_evaluation_of_training(checkpoint):
    trained = load_trained(checkpoint, CPU.device)
    ours = evaluate(trained, batch_size=128, group=CPU)
    theirs = evaluate_in_training(trained.net, trained.data.test, trained.data.to_input,
                                  batch_size=128, num_workers=0, amp="none", group=CPU)  # fmt: skip
    assert ours["samples"] == theirs["samples"] == 360
    assert ours["head_top1"] == pytest.approx(theirs["head_top1"])
    assert ours["top5"] == pytest.approx(theirs["top5"])
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


@torch.no_grad()
def test_accuracy_at_step_t_is_that_of_a_network_built_for_t_steps(checkpoint, result):
    trained = load_trained(checkpoint, CPU.device)
    for t in range(1, trained.net.T + 1):
        short = build_model("resnet18", num_classes=10, in_channels=1, T=t, width=2).eval()
        short.load_state_dict(trained.net.state_dict())
        right = sum(
            int(short(trained.data.to_input(image[None])).argmax() == label)
            for image, label in (trained.data.test[i] for i in range(IMAGES))
        )
        assert result["steps"][t - 1]["top1"] == pytest.approx(100 * right / IMAGES)


def test_two_processes_count_exactly_what_one_counts(checkpoint, result):
    first, second = run_processes(evaluate_share, 2, str(checkpoint), IMAGES)
    assert first == second
    for name in ("samples", "head_top1", "head_top5", "confusion", "early_exit"):
        assert first[name] == result[name], name
    counts = [[b["samples"] for b in r["calibration"]["bins"]] for r in (first, result)]
    assert counts[0] == counts[1]
    assert first["calibration"]["ece"] == pytest.approx(result["calibration"]["ece"])


def test_the_command_writes_table_json_and_picture(checkpoint, tmp_path, capsys):
    result = main([str(checkpoint), "--out", str(tmp_path), "--images", "20", "--thresholds",
                   "0.9", "0", "1", "--device", "cpu"])  # fmt: skip
    assert json.loads((tmp_path / "evaluate.json").read_text()) == result
    assert (tmp_path / "evaluate.png").read_bytes().startswith(b"\x89PNG")
    assert [row["threshold"] for row in result["early_exit"]] == [0, 0.9, 1]
    printed = capsys.readouterr().out
    assert f"| spiking network | {result['top1']:>9.2f} |" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluate.json", "evaluate.png"]


@pytest.mark.parametrize(("command", "draw", "shown"), [
    (evaluation, "draw_scores", "| spiking network |"),
    (energy, "draw_energy", "µJ"),
    (look_inside, "draw_potentials", "| stem "),
])  # fmt: skip
def test_a_picture_that_fails_never_costs_the_numbers(
    command, draw, shown, checkpoint, tmp_path, monkeypatch, capsys
):
    def fail(*arguments):
        raise OSError(28, "No space left on device", "picture.png")

    monkeypatch.setattr(command, draw, fail)
    with pytest.raises(SystemExit):
        command.main([str(checkpoint), "--out", str(tmp_path), "--images", "4", "--device", "cpu"])
    printed = capsys.readouterr()
    assert shown in printed.out
    assert printed.err == "error: picture.png: No space left on device\n"
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


@pytest.mark.parametrize("arguments, sentence", [
    (["{folder}/none.pt"], "none.pt does not exist"),
    (["{checkpoint}", "--images", "361"], "--images 361: the test set has only 360"),
    (["{checkpoint}", "--thresholds", "1.5"], "expected a number from 0 up to 1"),
    (["{checkpoint}", "--device", "gpu7"], "unknown device"),
    ([], "required"),
])  # fmt: skip
def test_wrong_input_ends_with_a_sentence_and_code_2(
    checkpoint, tmp_path, capsys, arguments, sentence
):
    filled = [text.format(checkpoint=checkpoint, folder=tmp_path) for text in arguments]
    with pytest.raises(SystemExit) as exit_:
        main(filled)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert sentence in message and message.count("\n") == 1
