"""Samples that are not finite are named as such, by number and data set, in every process."""

import math

import pytest
import torch
from torch.utils.data import TensorDataset

from experiment.train.evaluation import evaluate
from experiment.train.failure import NonFiniteError
from experiment.train.finite import FiniteCheck
from experiment.train.state import TrainingState
from experiment.trained.part.evaluation_set import EvaluationSet
from model import Execution
from tests.support.micro_training import (
    ONE_PROCESS,
    augmented,
    fit_silently,
    micro_data,
    micro_images,
    micro_network,
    micro_recipe,
    micro_state,
    micro_training,
)
from tests.support.processes import run_processes
from util.process.distributed import Group
from util.process.sampler import EpochSampler


def spoiled(dataset: TensorDataset, *places: int, value: float = math.nan) -> TensorDataset:
    """The same in float, with one pixel of these samples replaced."""
    images, labels = dataset.tensors
    images = images.float()
    images[list(places), 1, 2, 3] = value
    return TensorDataset(images, labels)


ORDER = [index for _, index in EpochSampler(10, seed=micro_recipe().seed)]


@pytest.mark.parametrize(
    ("value", "accum", "begun"),
    [(math.nan, 1, 0), (math.inf, 1, 0), (-math.inf, 2, 0), (math.nan, 1, 1)],
)
def test_training_names_the_sample_and_not_the_learning_rate(value, accum, begun):
    """Also in an epoch that was begun in the middle."""
    data = micro_data(train=augmented(spoiled(micro_images(10, seed=1), ORDER[9], value=value)))
    state = micro_state()
    state.batch = begun
    with pytest.raises(ValueError) as end:
        fit_silently(state, micro_training(micro_recipe(accum=accum), data))
    assert str(end.value).startswith(
        "epoch 0, step 2: 1 sample holds NaN or infinity in the training set of noise "
        f"(number {ORDER[9]} is the first"
    )
    assert "--lr" not in str(end.value)


def with_large_weight(**dtypes: torch.dtype) -> TrainingState:
    """One weight of a convolution of spikes is above the greatest number of float16."""
    state = micro_state()
    state.net.execution = Execution(**dtypes)
    with torch.no_grad():
        state.net.stages[0][0].unit2.conv.weight[0, 0, 0, 0] = 1e5
    return state


def test_a_weight_that_float16_does_not_hold_ends_the_training():
    """Neurons with NaN do not fire: the loss stays a number, but not the layer's gradient."""
    fit_silently(with_large_weight())
    half = {"convolution_forward": torch.float16, "convolution_backward": torch.bfloat16}
    state = with_large_weight(**half)
    before = [p.clone() for p in state.net.parameters()]
    with pytest.raises(NonFiniteError, match=r"the gradient of \S+ is not finite"):
        fit_silently(state)
    assert all(map(torch.equal, state.net.parameters(), before))


def test_the_test_set_of_a_training_is_named():
    data = micro_data(test=spoiled(micro_images(13, seed=2), 11, 4))
    with pytest.raises(ValueError, match=r"2 samples hold .* the test set of noise \(number 4 is"):
        fit_silently(micro_state(), micro_training(data=data))


def test_an_evaluation_refuses_samples_that_a_network_would_pass_over():
    """Neurons with NaN do not fire: the loss would be a number."""
    images = spoiled(micro_images(13, seed=2), 5)
    with pytest.raises(ValueError, match=r"1 sample holds .* infinity in the validation set of"):
        evaluate(micro_network(), micro_training(data=micro_data(validation=images)), "validation")
    logits = micro_network().eval()(micro_data().to_input(images.tensors[0]))
    assert logits.isfinite().all()


def test_commands_on_trained_networks_refuse_such_samples():
    data = micro_data(test=spoiled(micro_images(13, seed=2), 12))
    with pytest.raises(ValueError, match=r"the test set of noise \(number 12"):
        list(EvaluationSet(data, ONE_PROCESS, batch_size=4, num_workers=0).batches())


def test_frames_are_told_apart_by_sample():
    frames = torch.zeros(2, 3, 2, 4, 4)  # T, B, C, H, W
    frames[1, 2, 0, 0, 0] = math.inf
    check = FiniteCheck("frames", [7, 8, 9], ONE_PROCESS)
    check.note(frames)
    with pytest.raises(ValueError, match=r"1 sample holds .* frames \(number 9"):
        check.refuse()


def refused(group: Group) -> str:
    """Three processes, of which the second alone has a sample that is not finite."""
    check = FiniteCheck("data", range(group.rank, 9, 3), group)
    x = torch.zeros(3, 1, 2, 2)
    x[2] = math.nan if group.rank == 1 else 0
    check.note(x)
    try:
        check.refuse()
    except ValueError as error:
        return str(error)
    return "none"


def test_all_processes_refuse_what_one_has_seen():
    first, second, third = run_processes(refused, 3)
    assert first == second == third
    assert "1 sample holds NaN or infinity in data (number 7 is the first" in first
