"""The averaged network is what its recurrence says, is evaluated and saved, and may teach."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from experiment.cifar.config.config import get_parser
from experiment.flag.values import recipe_of, request_of
from experiment.train import loop
from experiment.train.loop import choose_step, step_context, teacher_of
from experiment.train.preflight import refuse_contradictions
from experiment.train.state import TrainingState
from experiment.train.time_steps import TimeSteps
from experiment.trained.part.trained_network import load_trained
from tests.fault import micro_run
from tests.support.finished_run import command, refusal, run
from tests.support.micro_training import (
    ONE_PROCESS,
    fit_silently,
    micro_context,
    micro_images,
    micro_network,
    micro_recipe,
    micro_state,
    micro_training,
)
from util.checkpoint import load_checkpoint

CPU = torch.device("cpu")
PROGRESS = torch.ones((), dtype=torch.float64)


def parts_of(accum, seed):
    """The parts of a step."""
    images, labels = micro_images(4, seed=seed).tensors
    return list(zip(images.chunk(accum), labels.chunk(accum), strict=True))


def exact_state(recipe, method="esd"):
    return TrainingState(micro_network(method).double().train(), recipe, {})


def exact_context(state, *given):
    return replace(micro_context(state, *given), to_input=lambda x: x.double() / 64)


def context_of(state, recipe):
    return step_context(state, recipe, ONE_PROCESS, to_input=lambda x: x.double() / 64)


def copy_of(net):
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize(("method", "accum"), [("esd", 1), ("bptt", 2), ("ottt", 1)])
@pytest.mark.parametrize("decay", [0.15, 0.999])
def test_the_average_is_its_recurrence(decay, method, accum):
    """Of weights and running statistics; with the smaller decays of the first steps."""
    recipe = micro_recipe(ema=decay, accum=accum)
    state = exact_state(recipe, method)
    step, wanted = choose_step(exact_context(state), recipe, 4), copy_of(state.net)
    for n, d in enumerate([1 / 10, min(decay, 2 / 11), min(decay, 3 / 12)]):
        before = copy_of(state.net)
        step(parts_of(accum, seed=n), PROGRESS)
        for name, value in state.net.state_dict().items():
            wanted[name] = d * wanted[name] + (1 - d) * value
        found = copy_of(state.average.net)
        assert not found["stem.conv.weight"].equal(before["stem.conv.weight"])
        for name, value in found.items():
            newest = state.net.state_dict()[name]
            if value.is_floating_point():
                torch.testing.assert_close(value, wanted[name], rtol=1e-12, atol=1e-14)
            else:
                assert value.equal(newest), name
    assert state.average.updates == n + 1


def test_the_average_stays_where_it_is():
    """Where a recorded step reads it."""
    state = micro_state(micro_recipe(ema=0.5))
    average = state.average
    places = [value.data_ptr() for value in average.net.state_dict().values()]
    average.begin(state.net)
    average.update()
    average.load_state_dict(average.state_dict())
    assert [value.data_ptr() for value in average.net.state_dict().values()] == places


def test_an_average_begins_with_the_weights_that_training_begins_with():
    """They may come after the state is made (--init); not where it goes on."""
    state, other = micro_state(micro_recipe(ema=0.5)), micro_state(method="rate").net
    state.net.load_state_dict(other.state_dict(), strict=False)
    state.net.stem.norm.running_mean += 1
    for _ in range(2):
        context_of(state, micro_recipe(ema=0.5))
        found = copy_of(state.average.net)
        if state.average.updates == 0:
            begun = copy_of(state.net)
            state.average.updates = 1
            state.net.stem.norm.running_mean += 1
    assert all(found[name].equal(value) for name, value in begun.items())


@pytest.mark.parametrize("accum", [1, 2])
def test_the_teacher_sees_the_averaged_network_in_evaluation_at_the_step_s_T(accum):
    recipe = micro_recipe(ema=0.5, teacher="ema", accum=accum)
    state, seen = exact_state(recipe), []
    context = context_of(state, recipe)

    def remembering(heads, labels, progress, averaged):
        seen.append(averaged)
        return context.loss(heads, labels, progress, averaged)

    step = replace(context, loss=remembering, time_steps=TimeSteps(2, 2, 0))
    step = choose_step(step, recipe, 4)
    for seed in range(2):
        average, before = deepcopy(state.average.net).eval(), copy_of(state.average.net)
        parts = parts_of(accum, seed)
        step(parts, PROGRESS)
        for images, _ in parts:
            found, x = seen.pop(0), images.double() / 64
            wanted = torch.stack(average.head_logits(x, T=2))
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
            assert not found.requires_grad
            assert not found.equal(torch.stack(average.head_logits(x)))  # at another T
        assert not before["stem.conv.weight"].equal(state.average.net.stem.conv.weight)
    assert all(value.grad is None for value in state.average.net.parameters())


@pytest.mark.parametrize(
    ("changes", "method", "asked"),
    [
        ({"ema": 0.5, "teacher": "ema"}, "esd", True),
        ({"ema": 0.5}, "esd", False),
        ({"ema": 0.5, "teacher": "ema", "beta": 0.0}, "esd", False),
        ({"ema": 0.5, "teacher": "ema"}, "rate", False),
        ({"teacher": "ema", "beta": 0.0}, "esd", False),
    ],
)
def test_the_averaged_network_runs_only_where_it_teaches(changes, method, asked):
    recipe = micro_recipe(**changes)
    state = micro_state(recipe, method)
    context = context_of(state, recipe)
    assert context.averaged is (state.average.net if asked else None)
    assert context.loss.teacher is teacher_of(recipe, state.net)
    assert context.loss.teacher.averaged is asked


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("--teacher ema", True),
        ("--teacher ema --ema none", True),
        ("--teacher ema --ema 0.9", False),
        ("--teacher ema --beta 0", False),
        ("--teacher ema --method bptt", False),
        ("--teacher ema --evaluate x", False),
        ("--teacher soft", False),
    ],
)
def test_a_teacher_that_is_not_there_is_refused(text, refused):
    args = get_parser().parse_args(text.split())
    if not refused:
        refuse_contradictions(request_of(args), recipe_of(args))
        return
    with pytest.raises(ValueError, match=r"--teacher ema .*: give --ema DECAY too"):
        refuse_contradictions(request_of(args), recipe_of(args))


def test_it_is_refused_before_data_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(micro_run, "data_of", None)
    assert "give --ema DECAY too" in refusal(tmp_path, "--teacher", "ema")


def test_without_it_nothing_is_evaluated_twice(monkeypatch):
    evaluate, seen = loop.evaluate, []

    def noting(net, *given, **options):
        seen.append(net)
        return evaluate(net, *given, **options)

    monkeypatch.setattr(loop, "evaluate", noting)
    for ema in (None, 0.5):
        state = micro_state(micro_recipe(ema=ema, num_epoch=1))
        fit_silently(state, micro_training(micro_recipe(num_epoch=1)))
        nets = [state.net] if ema is None else [state.net, state.average.net]
        assert len(seen) == len(nets) and all(a is b for a, b in zip(seen, nets, strict=True))
        seen.clear()


FLAGS = ("--ema", "0.9", "--teacher", "ema", "--val_fraction", "0.3")


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    return run(tmp_path_factory.mktemp("averaged"), *FLAGS)


def test_the_averaged_network_is_recorded_and_saved(averaged, finished):
    records = [json.loads(x) for x in (averaged.folder / "metrics.jsonl").read_text().splitlines()]
    last = records[-1]
    assert last["ema"].keys() == {"test", "validation"}
    assert last["ema"]["test"].keys() == last["test"].keys()
    assert averaged.result["ema_test_top1"] == last["ema"]["test"]["top1"]
    assert last["ema"]["test"]["loss"] != last["test"]["loss"]
    path = averaged.folder / "ema.pt"
    found = micro_run.main(command(averaged.folder, "--evaluate", str(path), *FLAGS))
    assert found == last["ema"]["test"]
    content, newest = load_checkpoint(path), load_checkpoint(averaged.folder / "last.pt")
    assert content.keys() == {"arguments", "averaged", "data", "epoch", "model"}
    assert content["epoch"] == newest["epoch"] == 2
    assert micro_run.digest(content["model"]) == micro_run.digest(newest["ema"]["model"])
    trained = load_trained(path, CPU, with_data=False)
    assert (trained.epochs, len(trained.records), trained.averaged) == (2, 2, True)

    off = json.loads((finished.folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert "ema" not in off and "ema_test_top1" not in finished.result
    assert not (finished.folder / "ema.pt").exists()
    assert load_checkpoint(finished.folder / "last.pt")["ema"] is None


def test_a_training_does_not_go_on_from_the_averaged_network(averaged):
    code, text = micro_run.ending(["--resume", str(averaged.folder / "ema.pt")])
    (error,) = micro_run.errors_in(text)
    assert code == 2 and "no state of a training run (it has averaged weights alone)" in error
    assert error.endswith("name a last.pt or best.pt of a run, or begin a new one with --init")
