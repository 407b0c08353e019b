"""--tune times every way, says what pays, trains nothing and leaves nothing behind."""

from types import SimpleNamespace

import pytest
import torch

from experiment.cifar.main import main as cifar
from experiment.flag import ways
from experiment.imagenet.main import main as imagenet
from experiment.train import tuning
from experiment.train.failure import NonFiniteError
from experiment.train.tuning import KernelChoice, Timing, advice, is_possible, worth_trying
from tests.support.micro_training import micro_recipe

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
    monkeypatch.setattr(ways, "SWITCHES", ())
    monkeypatch.setattr(ways, "PRECISIONS", ("none", "bf16-backward"))


@pytest.mark.parametrize("name", ["cifar", "imagenet"])
def test_a_training_is_timed_and_leaves_nothing(name, brief, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main, argv = COMMANDS[name]
    seconds = main([*argv, *TINY, "--log_path", tmp_path / "runs"])
    assert list(seconds) == ["", "--amp bf16-backward"] and min(seconds.values()) > 0
    said = capsys.readouterr()
    assert "no effect of --log_path: --tune measures every way" in said.err
    assert "steps of 8 images" in said.out and "quickest in fp32" in said.out
    assert said.out.count("plain (none of these flags): ") == 2
    assert ("timed at --T alone" in said.out) == ("--T_min" in argv)
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


TIMINGS = {
    "": Timing(3, 1),
    "--compile": Timing(20, 0.64),
    "--sparse": Timing(0.6, 0.6),
    "--amp bf16": Timing(0.5, 0.5),
}
QUICKEST = "quickest in fp32, and its time over the plain way's: --sparse (0.60)"
QUICKER = "quicker still, with gradients or more in 16 bits: --amp bf16 (0.50)"


@pytest.mark.parametrize(
    ("steps", "again", "said"),
    [
        (1000, Timing(1, 1), [QUICKEST, QUICKER]),
        # Too few steps to make good for compiling; the plain way's first step was the process's.
        (20, Timing(1, 1), [QUICKEST, QUICKER, "slower here than the plain way: --compile (1.61)"]),
        (1000, Timing(1, 1.25), [QUICKEST, QUICKER, "the plain way took 25% more when it was"]),
        (1000, Timing(1, 0.8), [QUICKEST, QUICKER, "the plain way took 20% less when it was"]),
        (1000, None, ["quickest of those that could be timed: --amp bf16"]),
    ],
)
def test_what_pays_is_said(steps, again, said):
    lines = list(advice(TIMINGS, again, steps))
    assert len(lines) == len(said)
    assert all(line.startswith(beginning) for line, beginning in zip(lines, said, strict=True))


def way(words):
    return KernelChoice(words, None, SimpleNamespace(amp=words.partition("--amp ")[2] or "none"))


@pytest.mark.parametrize(
    ("seconds", "tried"),
    [
        ({"": 1.0, "--amp bf16": 0.9}, True),
        ({"": 1.0, "--amp bf16": 1.1}, False),
        ({"": 1.0}, False),
        ({"--amp bf16": 0.9}, False),
    ],
)
def test_a_slow_precision_is_not_tried_in_other_ways(seconds, tried):
    choices = [way(words) for words in ("", "--sparse", "--amp bf16", "--sparse --amp bf16")]
    timings = {words: Timing(step, step) for words, step in seconds.items()}
    plain, sparse, bf16, both = (worth_trying(choice, choices, timings) for choice in choices)
    assert plain and bf16 and sparse == ("" in seconds) and both == tried


def test_what_cannot_be_compiled_is_not_compared(monkeypatch):
    """It runs otherwise, so that its time is that of another way."""
    group = SimpleNamespace(device=torch.device("cpu"))
    choices = [way(words) for words in ("", "--compile", "--sparse", "--sparse --compile")]

    def possible(sparse, uncompiled):
        monkeypatch.setattr(tuning.library, "is_available", lambda: sparse)
        monkeypatch.setattr(tuning.compiled, "UNCOMPILED", uncompiled)
        return [is_possible(choice, group) for choice in choices]

    assert possible(True, {"cuda"}) == [True, True, True, True]
    assert possible(False, set()) == [True, True, False, False]
    assert possible(True, {"cpu"}) == [True, False, True, False]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NonFiniteError("the hard loss is not finite"), "the hard loss is not finite"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "CUDA out of memory with --train_batch_size",
        ),
        (RuntimeError("a mistake of ours"), None),
    ],
)
def test_a_way_that_fails_is_said_and_the_others_are_timed(error, said, brief, monkeypatch, capsys):
    real = tuning.time_steps

    def fails(way, *others):
        if way.words:
            raise error
        return real(way, *others)

    monkeypatch.setattr(tuning, "time_steps", fails)
    main, argv = COMMANDS["cifar"]
    if said is None:
        with pytest.raises(RuntimeError, match="mistake"):
            main([*argv, *TINY])
    else:
        assert list(main([*argv, *TINY])) == [""]
        assert f"--amp bf16-backward: {said}" in capsys.readouterr().out


def test_no_weight_moves(brief, monkeypatch, capsys):
    """So that all ways are timed at the same firing rates, however many steps they take."""
    seen, real = [], tuning.choose_step

    def choose(context, *others):
        step, weights = real(context, *others), context.state.net.state_dict()

        def watched(*batch):
            before = {k: v.clone() for k, v in weights.items() if "running" not in k}
            step(*batch)
            seen.extend(v.equal(weights[k]) for k, v in before.items() if "batches" not in k)

        return watched

    monkeypatch.setattr(tuning, "choose_step", choose)
    main, argv = COMMANDS["cifar"]
    main([*argv, *TINY])
    assert len(seen) > 100 and all(seen)


def test_what_does_not_fit_is_refused_as_a_wrong_flag(brief, capsys):
    main, argv = COMMANDS["cifar"]
    with pytest.raises(SystemExit) as end:
        main([*argv, *TINY, "--branch_pool", 99])
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("(branch_pool=None, --branch_pool global)\n")


def test_it_is_for_one_process(capsys):
    with pytest.raises(SystemExit) as end:
        tuning.tune([KernelChoice("", None, micro_recipe())], None, SimpleNamespace(world_size=2))
    assert end.value.code == 2
    assert "--tune measures one process: start it without torchrun" in capsys.readouterr().err


def test_paths_that_it_does_not_use_are_not_looked_at(brief, tmp_path):
    main, argv = COMMANDS["cifar"]
    file = tmp_path / "file"
    file.write_text("no folder")
    assert main([*argv, *TINY, "--log_path", file, "--init", tmp_path / "missing.pt"])
