"""--tune times every way, says what pays, trains nothing and leaves nothing behind."""

from types import SimpleNamespace

import pytest
import torch

from experiment.cifar.main import main as cifar
from experiment.flag import ways
from experiment.imagenet.main import main as imagenet
from experiment.train import tuning
from experiment.train.tuning import KernelChoice, Timing, advice, tune

TINY = ["--width", 2, "--T", 2, "--train_batch_size", 8, "--num_epoch", 2]
TINY += ["--num_workers", 0, "--tune"]
COMMANDS = {
    "cifar": (cifar, ["--dataset", "Digits", "--T_min", "1"]),
    "imagenet": (imagenet, ["--dummy", "8", "--image_size", "32", "--branch_pool", "global"]),
}


@pytest.fixture
def brief(monkeypatch):
    """Two ways, a step each."""
    monkeypatch.setattr(tuning, "ENOUGH", 0.0)
    monkeypatch.setattr(tuning, "LEAST", 1)
    monkeypatch.setattr(ways, "WAYS", ({}, {"amp": "bf16-backward"}))


@pytest.mark.parametrize("name", ["cifar", "imagenet"])
def test_a_training_is_timed_and_leaves_nothing(name, brief, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main, argv = COMMANDS[name]
    seconds = main([*argv, *TINY, "--log_path", tmp_path / "runs"])
    assert list(seconds) == ["", "--amp bf16-backward"] and min(seconds.values()) > 0
    said = capsys.readouterr()
    assert "no effect of --log_path: --tune measures every way" in said.err
    assert "steps of 8 images" in said.out and "quickest in fp32: plain" in said.out
    assert list(tmp_path.iterdir()) == []


def test_each_way_begins_with_the_same_weights_and_is_timed_at_T(brief, monkeypatch, capsys):
    seen, real = [], tuning.step_context

    def context(state, recipe, *others, **named):
        seen.append((recipe.T_min, next(state.net.parameters()).detach().clone()))
        return real(state, recipe, *others, **named)

    monkeypatch.setattr(tuning, "step_context", context)
    main, argv = COMMANDS["cifar"]
    main([*argv, *TINY])
    (T_min, weights), *others = seen
    assert T_min is None and len(others) == 2, "the first way is timed again"
    assert all(torch.equal(weights, own) for _, own in others)


def way(words, exact=True):
    return KernelChoice(words, exact, None, None)


@pytest.mark.parametrize(
    ("steps", "again", "said"),
    [
        (
            1000,
            1.0,
            "quickest in fp32: --sparse, 0.60 of the time of the plain way | quicker still, with "
            "gradients or more in 16 bits: --amp bf16 (0.50)",
        ),
        (
            20,  # too few to make good for compiling
            1.0,
            "quickest in fp32: --sparse, 0.60 of the time of the plain way | quicker still, with "
            "gradients or more in 16 bits: --amp bf16 (0.50) | slower here than the plain way: "
            "--compile (1.61)",
        ),
        (
            1000,
            1.25,
            "quickest in fp32: --sparse, 0.60 of the time of the plain way | quicker still, with "
            "gradients or more in 16 bits: --amp bf16 (0.50) | the plain way took 25% more when it "
            "was timed again at the end: differences below that say nothing; measure on an idle "
            "machine",
        ),
    ],
)
def test_what_pays_is_said(steps, again, said):
    ways = [way(""), way("--compile"), way("--sparse"), way("--amp bf16", exact=False)]
    timings = [Timing(1, 1), Timing(20, 0.64), Timing(0.6, 0.6), Timing(0.5, 0.5)]
    assert " | ".join(advice(ways, timings, Timing(again, again), steps)) == said


def test_what_does_not_fit_is_refused_as_a_wrong_flag(brief, capsys):
    main, argv = COMMANDS["cifar"]
    with pytest.raises(SystemExit) as end:
        main([*argv, *TINY, "--branch_pool", 99])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("(branch_pool=None, --branch_pool global)\n")


def test_it_is_for_one_process():
    with pytest.raises(ValueError, match="--tune measures one process: start it without torchrun"):
        tune([], None, SimpleNamespace(world_size=2))
