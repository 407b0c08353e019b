"""Which place and device a process has, and what the environment must say."""

import pytest
import torch

from tests.support.processes import environment_of
from util.process.place import choose_device, place_from_environment


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"WORLD_SIZE": None}, "has RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT but not WORLD_SIZE"),
        ({"MASTER_ADDR": None, "MASTER_PORT": None}, "but not MASTER_ADDR, MASTER_PORT"),
        ({"LOCAL_RANK": ""}, "but not LOCAL_RANK"),
        ({"RANK": "four"}, "RANK is 'four': expected a whole number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
        ({"RANK": "2"}, "RANK 2 of WORLD_SIZE 2: expected 0 to 1"),
    ],
)
def test_a_half_set_environment_is_one_sentence(changes, sentence):
    environment = {**environment_of(1, 2, 29500), **changes}
    environment = {name: value for name, value in environment.items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        place_from_environment(environment)


def test_places_by_environment():
    assert place_from_environment({"MASTER_ADDR": "login-node"}) == (0, 1, 0)
    assert place_from_environment({"WORLD_SIZE": "1", "RANK": "0"}) == (0, 1, 0)
    assert place_from_environment(environment_of(1, 2, 29500)) == (1, 2, 1)


def test_a_device_per_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(None, local_rank=1) == torch.device("cuda", 1)
    assert choose_device("cpu", local_rank=7) == torch.device("cpu")
    with pytest.raises(ValueError, match="cuda:2 is not there: this machine shows 2 of them"):
        choose_device("cuda", local_rank=2)


@pytest.mark.parametrize("name", ["cpu:0", "tpu", "meta", "cuda:99"])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(ValueError, match=name):
        choose_device(name)
