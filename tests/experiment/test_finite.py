"""Samples that are not finite are named as such, by number and data set, in every process."""

import dataclasses
import logging
import math

import pytest
import torch
from torch.utils.data import TensorDataset

from experiment.engine import fit
from experiment.evaluation import evaluate
from experiment.finite import FiniteCheck
from experiment.recorder import Recorder
from experiment.trained.command import batches_of
from tests.support.micro_training import (
    ONE_PROCESS,
    MicroData,
    micro_data,
    micro_images,
    micro_network,
    micro_recipe,
    micro_state,
)
from tests.support.processes import run_processes
from util.distributed import Group
from util.loader import AugmentedDataset
from util.sampler import EpochSampler
from util.signals import StopRequest


def spoiled(dataset: TensorDataset, *places: int, value: float = math.nan) -> TensorDataset:
    """The same in float, with one pixel of these samples replaced."""
    images, labels = dataset.tensors
    images = images.float()
    images[list(places), 1, 2, 3] = value
    return TensorDataset(images, labels)


def train(data: MicroData, **changes) -> None:
    state, recipe = micro_state(), micro_recipe(**changes)
    recorder = Recorder(None, logging.getLogger("finite"))
    fit(state, data, recipe, group=ONE_PROCESS, recorder=recorder, stop=StopRequest())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("accum", [1, 2])
def test_training_names_the_sample_and_not_the_learning_rate(value, accum):
    images = spoiled(micro_images(10, seed=1), 6, value=value)
    data = dataclasses.replace(
        micro_data(), train=AugmentedDataset(images, lambda image: image, seed=0)
    )
    order = [index for _, index in EpochSampler(10, seed=micro_recipe().seed, shuffle=True)]
    place = f"^epoch 0, step {order.index(6) // 4}: 1 sample holds NaN or infinity in the training"
    with pytest.raises(ValueError, match=f"{place} set of noise .number 6 is the first") as end:
        train(data, accum=accum)
    assert "--lr" not in str(end.value)


def test_a_sample_is_found_in_an_epoch_that_was_begun_in_the_middle():
    order = [index for _, index in EpochSampler(10, seed=micro_recipe().seed, shuffle=True)]
    images = spoiled(micro_images(10, seed=1), order[9])
    data = dataclasses.replace(
        micro_data(), train=AugmentedDataset(images, lambda image: image, seed=0)
    )
    state, recorder = micro_state(), Recorder(None, logging.getLogger("finite"))
    state.batch = 1
    with pytest.raises(ValueError, match=f"epoch 0, step 2: .*number {order[9]} is the first"):
        fit(state, data, micro_recipe(), group=ONE_PROCESS, recorder=recorder, stop=StopRequest())


def test_the_test_set_of_a_training_is_named():
    data = dataclasses.replace(micro_data(), test=spoiled(micro_images(13, seed=2), 11, 4))
    with pytest.raises(ValueError, match=r"2 samples hold .* the test set of noise \(number 4 is"):
        train(data)


def test_an_evaluation_refuses_samples_that_a_network_would_pass_over():
    """Neurons with NaN do not fire: the loss would be a number."""
    images = spoiled(micro_images(13, seed=2), 5)
    options = {"batch_size": 4, "num_workers": 0, "amp": "none", "group": ONE_PROCESS}
    with pytest.raises(ValueError, match="1 sample holds NaN or infinity in the data set"):
        evaluate(micro_network(), images, micro_data().to_input, **options)
    logits = micro_network().eval()(micro_data().to_input(images.tensors[0]))
    assert logits.isfinite().all()


def test_commands_on_trained_networks_refuse_such_samples():
    images = spoiled(micro_images(13, seed=2), 12)
    options = {"batch_size": 4, "num_workers": 0, "group": ONE_PROCESS}
    with pytest.raises(ValueError, match=r"the test set of noise \(number 12"):
        list(batches_of(images, micro_data(), **options))
    assert len(list(batches_of(micro_images(13, seed=2), micro_data(), **options))) == 4


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
