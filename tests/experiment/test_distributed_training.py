"""A training step of several gloo processes against the same by one."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from experiment.train.failure import NonFiniteError
from experiment.train.loop import choose_step, step_context
from experiment.train.recipe import Recipe
from experiment.train.state import TrainingState
from experiment.train.step import Step, StepContext, averaged_logits
from experiment.train.time_steps import TimeSteps
from experiment.train.update import Update
from model import METHODS, RateModel, build_model
from model.batch_norm import synchronise
from tests.support.micro_training import micro_recipe
from tests.support.processes import run_processes
from util.process.distributed import Group

ALONE = Group(0, 1, torch.device("cpu"))
BATCH, CLASSES = 12, 7
PROGRESS = torch.ones((), dtype=torch.float64)
RECIPE = micro_recipe(train_batch_size=BATCH, val_batch_size=BATCH, num_epoch=1, alp=0.5)


def network(*, arch: str = "resnet18", classes: int = CLASSES, **options) -> RateModel:
    """A narrow network in float64, the same weights every time."""
    torch.manual_seed(0)
    return build_model(
        arch, num_classes=classes, T=2, width=4, branch_pool=None, thresh=0.5, **options
    ).double()


def images_and_labels(steps: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Batches of noise, (12, 3, 16, 16), and labels of 7 classes."""
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH, 3, 16, 16, dtype=torch.float64, generator=generator),
            torch.randint(CLASSES, (BATCH,), generator=generator),
        )
        for _ in range(steps)
    ]


def context_of(state: TrainingState, recipe: Recipe, group: Group) -> StepContext:
    """Of a training that takes images as they are."""
    return step_context(state, recipe, group, to_input=lambda images: images)


def step_of(net: RateModel, recipe: Recipe, group: Group) -> tuple[TrainingState, Step]:
    """A training of this network, which takes images as they are, and its step."""
    state = TrainingState(net, recipe, {})
    context = context_of(state, recipe, group)
    return state, choose_step(context, recipe, BATCH // group.world_size)


def train_steps(
    group: Group,
    *,
    frozen: bool = False,
    sync_bn: bool = False,
    beta: float = 0.3,
    accum: int = 1,
    clip_norm: float | None = None,
    T_min: int | None = None,
    **options,
) -> dict:
    """Two steps of training; weights, gradients and metrics as arrays.

    frozen: batch norms use their running statistics, so that they do not couple the images.
    options: of the network.
    """
    net = network(**options)
    if sync_bn:
        synchronise(net, group)
    net.train()
    if frozen:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    recipe = replace(RECIPE, beta=beta, accum=accum, clip_norm=clip_norm, T_min=T_min)
    state, step = step_of(net, recipe, group)
    for images, labels in images_and_labels(steps=2):
        images, labels = (x[group.rank :: group.world_size] for x in (images, labels))
        step(list(zip(images.chunk(accum), labels.chunk(accum), strict=True)), PROGRESS)
    own_reliable = state.means.means()["reliable"]
    state.means.gather(group.sum, keep=True)
    return {
        "weights": {name: p.detach().numpy() for name, p in net.named_parameters()},
        "gradients": {name: p.grad.numpy() for name, p in net.named_parameters()},
        "buffers": {name: b.numpy() for name, b in net.named_buffers()},
        "means": state.means.means(),
        "own_reliable": own_reliable,
    }


def largest_difference(a: dict, b: dict, kind: str) -> float:
    """Over all tensors of a kind, relative to the largest value of each.

    Tensors of nothing but rounding (gradients of biases before a batch norm) have no such scale.
    """
    least = 1e-6 * max(float(np.abs(value).max()) for value in b[kind].values())
    return max(
        float(np.abs(a[kind][name] - value).max() / max(np.abs(value).max(), least))
        for name, value in b[kind].items()
    )


def steps_of(world_size: int, **keywords) -> list[dict]:
    """`train_steps` in each of so many processes."""
    return run_processes(partial(train_steps, **keywords), world_size)


@pytest.mark.parametrize(
    ("world_size", "method"), [(3, "esd"), *((2, method) for method in METHODS)]
)
def test_many_processes_take_the_step_of_one(world_size, method):
    one = train_steps(ALONE, frozen=True, method=method)
    many = steps_of(world_size, frozen=True, method=method)
    for other in many:
        assert largest_difference(other, one, "gradients") < 1e-11
        assert largest_difference(other, one, "weights") < 1e-12
        assert other["means"]["total"] == pytest.approx(one["means"]["total"], rel=1e-12)
        assert other["means"]["head_top1"] == pytest.approx(one["means"]["head_top1"], rel=1e-6)
    # Otherwise the loss's average over reliable samples would be the same anyway.
    assert len({result["own_reliable"] for result in many}) > 1


@pytest.mark.parametrize("method", ["esd", "bptt", "bptt_checkpointed", "sltt"])
def test_many_processes_draw_the_time_steps_of_one(method):
    """Their wrapper takes it that all steps use and exchange the same: that does not hang on T."""
    drawn = [TimeSteps(1, 2, RECIPE.seed).of(0, step) for step in (0, 1)]
    assert sorted(drawn) == [1, 2]
    one = train_steps(ALONE, frozen=True, T_min=1, method=method)
    for other in steps_of(2, frozen=True, T_min=1, method=method):
        assert largest_difference(other, one, "gradients") < 1e-11
        assert largest_difference(other, one, "weights") < 1e-12


@pytest.mark.parametrize(
    "options",
    [
        {"method": "esd"},
        {"method": "esd", "arch": "preact_resnet18"},
        {"method": "rate", "v_reset": 0.0},
        {"method": "bptt"},
        {"method": "bptt_checkpointed"},
        {"method": "sltt"},
        {"method": "ottt", "arch": "preact_resnet18"},
    ],
    ids=str,
)
def test_synchronised_batch_norms_make_the_whole_step_that_of_one_process(options):
    """Spike statistics over T*B of all processes, backward sums, running statistics, branches."""
    one = train_steps(ALONE, **options)
    for other in steps_of(2, sync_bn=True, **options):
        assert largest_difference(other, one, "gradients") < 1e-8
        assert largest_difference(other, one, "weights") < 1e-9
        assert largest_difference(other, one, "buffers") < 1e-10
        assert other["means"]["total"] == pytest.approx(one["means"]["total"], rel=1e-11)


def test_without_synchronisation_batch_norms_differ():
    """So the test above does compare something."""
    one = train_steps(ALONE, method="rate")
    for other in steps_of(2, method="rate"):
        assert largest_difference(other, one, "gradients") > 1e-3


@pytest.mark.parametrize(
    ("accum", "world_size", "clip_norm"), [(2, 1, None), (3, 1, 0.1), (3, 2, None), (3, 2, 0.1)]
)
def test_accumulated_parts_take_the_step_of_the_whole(accum, world_size, clip_norm):
    options = {"frozen": True, "beta": 0.0, "clip_norm": clip_norm}
    whole = train_steps(ALONE, **options)
    if clip_norm is not None:
        norm = math.sqrt(sum(np.square(value).sum() for value in whole["gradients"].values()))
        assert norm == pytest.approx(clip_norm, rel=1e-4)
    for parts in steps_of(world_size, accum=accum, **options):
        assert largest_difference(parts, whole, "gradients") < 1e-11
        assert largest_difference(parts, whole, "weights") < 1e-12
        assert parts["means"]["hard"] == pytest.approx(whole["means"]["hard"], rel=1e-12)


def exchanges(group: Group, keywords: dict) -> int:
    """How often a step exchanges gradients, in three parts: how often the first bucket goes."""
    buckets = []

    def exchange(_, bucket):
        buckets.append(bucket.index())
        return allreduce_hook(None, bucket)

    net, recipe = network(**keywords).train(), replace(RECIPE, accum=3)
    context = context_of(TrainingState(net, recipe, {}), recipe, group)
    context.network.register_comm_hook(None, exchange)
    ((images, labels),) = images_and_labels()
    parts = zip(images.chunk(6)[group.rank :: 2], labels.chunk(6)[group.rank :: 2], strict=True)
    choose_step(context, recipe, BATCH // 2)(list(parts), PROGRESS)
    return buckets.count(0)


@pytest.mark.parametrize("method", ["esd", "sltt"])
def test_gradients_are_exchanged_once_per_step(method):
    assert run_processes(exchanges, 2, {"method": method}) == [1, 1]


def averaged_steps(group: Group) -> dict:
    """Two steps with the averaged network as teacher, of processes that begin differently."""
    net, recipe = network().train(), replace(RECIPE, ema=0.5, teacher="ema")
    with torch.no_grad():
        for value in net.state_dict().values():
            value += group.rank
    state = TrainingState(net, recipe, {})
    context = context_of(state, recipe, group)
    step, batches = choose_step(context, recipe, BATCH // group.world_size), images_and_labels(3)
    lessons = []
    for images, labels in batches:
        lessons.append(averaged_logits(context, batches[0][0], net.T).numpy())
        step([(images[group.rank :: group.world_size], labels[group.rank :: 2])], PROGRESS)
    averages = {name: p.detach().numpy() for name, p in state.average.net.named_parameters()}
    return {
        "averages": averages,
        "lessons": lessons,
        "statistics": net.stem.norm.running_mean.numpy(),
    }


def test_all_processes_have_one_average_and_one_teacher():
    """Though each has running statistics of its own share of the batches."""
    one, other = run_processes(averaged_steps, 2)
    assert largest_difference(one, other, "averages") == 0
    assert not np.array_equal(one["statistics"], other["statistics"])
    assert all(map(np.array_equal, one["lessons"], other["lessons"]))
    assert not np.array_equal(one["lessons"][0], one["lessons"][2])


def poisoned_steps(group: Group, runs_ahead: bool) -> dict:
    """Four steps; the last process's second batch is not finite."""
    state = TrainingState(network().train(), RECIPE, {})
    update = Update(state.net, state.optimizer, group, runs_ahead=runs_ahead)
    context = replace(context_of(state, RECIPE, group), update=update)
    step = choose_step(context, RECIPE, BATCH // group.world_size)
    batches = [
        tuple(x[group.rank :: group.world_size] for x in batch) for batch in images_and_labels(4)
    ]
    if group.rank == group.world_size - 1:
        batches[1][0][0, 0, 3, 3] = math.nan
    weights = []
    try:
        for batch in batches:
            step([batch], PROGRESS)
            weights.append([p.detach().clone() for p in state.net.parameters()])
    except NonFiniteError as error:
        same = all(map(torch.equal, weights[0], state.net.parameters()))
        return {"steps": len(weights), "untouched": same, "message": str(error)}
    return {"steps": len(weights), "untouched": False, "message": "none"}


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_one_process_s_nan_stops_all_before_the_update(runs_ahead):
    for result in run_processes(poisoned_steps, 2, runs_ahead):
        assert result["steps"] == 1 + runs_ahead
        assert result["untouched"]
        assert "epoch 0, step 1" in result["message"]
