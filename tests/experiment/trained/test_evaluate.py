"""The evaluate command: its numbers against shorter networks, processes and training."""

import json

import pytest
import torch

from experiment.train.evaluation import evaluate as evaluate_in_training
from experiment.train.task import Training
from experiment.trained.evaluate import count_scores, main
from experiment.trained.part.evaluation_set import EvaluationSet
from model import build_model
from tests.support.micro_training import ONE_PROCESS, micro_recipe
from tests.support.processes import run_processes
from tests.support.trained_run import evaluate_share, first_samples

IMAGES = 45


@pytest.fixture(scope="module")
def result(trained):
    return count_scores(trained, EvaluationSet(trained.data, ONE_PROCESS, IMAGES, 32))


def test_it_agrees_with_the_evaluation_of_training(trained):
    ours = count_scores(trained, EvaluationSet(trained.data, ONE_PROCESS))
    training = Training(trained.data, micro_recipe(val_batch_size=128), ONE_PROCESS)
    theirs = evaluate_in_training(trained.net, training, "test")
    assert ours["samples"] == theirs["samples"] == 360
    assert ours["head_top1"] == pytest.approx(theirs["head_top1"])
    assert ours["top5"] == pytest.approx(theirs["top5"])
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


@torch.no_grad()
def test_accuracy_at_step_t_is_that_of_a_network_built_for_t_steps(trained, result):
    x, labels = first_samples(trained, IMAGES)
    for t in range(1, trained.net.T + 1):
        short = build_model("resnet18", num_classes=10, in_channels=1, T=t, width=2).eval()
        short.load_state_dict(trained.net.state_dict())
        right = (short(x).argmax(1) == labels).double().mean()
        assert result["steps"][t - 1]["top1"] == pytest.approx(100 * right.item())


def test_two_processes_count_exactly_what_one_counts(checkpoint, result):
    first, second = run_processes(evaluate_share, 2, str(checkpoint), IMAGES)
    assert first == second
    for name in ("samples", "head_top1", "head_top5", "confusion", "early_exit"):
        assert first[name] == result[name], name
    counts = [[b["samples"] for b in r["calibration"]["bins"]] for r in (first, result)]
    assert counts[0] == counts[1]
    assert first["calibration"]["ece"] == pytest.approx(result["calibration"]["ece"])


def test_the_command_writes_table_json_and_picture(checkpoint, tmp_path, capsys):
    flags = ["--out", tmp_path, "--images", 20, "--device", "cpu"]
    result = main([checkpoint, *flags, "--thresholds", 0.9, 0, 1])
    assert json.loads((tmp_path / "evaluate.json").read_text()) == result
    assert (tmp_path / "evaluate.png").read_bytes().startswith(b"\x89PNG")
    assert [row["threshold"] for row in result["early_exit"]] == [0, 0.9, 1]
    printed = capsys.readouterr().out
    assert f"| spiking network | {result['top1']:>9.2f} |" in printed
    assert f"its mean height: {result['steps_area']:.2f} %" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluate.json", "evaluate.png"]


@pytest.mark.parametrize("flag", ["--sparse", "--no-sparse"])
def test_silent_inputs_are_skipped_as_asked_for(flag, checkpoint, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "model.kernel.skips_silence", lambda x, execution: asked.append(execution.sparse) or False
    )
    main([checkpoint, "--out", tmp_path, "--images", 20, "--device", "cpu", flag])
    assert asked == [flag == "--sparse"]
