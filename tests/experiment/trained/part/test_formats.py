"""The files of an export: one that is not the network does not stay."""

import copy

import pytest
import torch

from experiment.trained.part import formats
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.exported import describe_network, export_program, write_weights
from experiment.trained.part.formats import FORMATS, Choice, write_formats
from model import build_model
from model.inference.fold import fold
from tests.support.micro_training import ONE_PROCESS
from tests.support.trained_run import first_samples, stir


@pytest.fixture(scope="module")
def networks(trained):
    """Two of one shape: they differ in spikes, and in most answers."""
    torch.manual_seed(0)
    net = fold(stir(build_model("vgg11", num_classes=10, in_channels=1, T=1, width=2)).eval())
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.stem.conv.bias += 0.5
        other.classifier[-1].bias[net(first_samples(trained, 1)[0]).argmin()] += 100
    return net, other


@pytest.mark.parametrize("name", ["safetensors", "program", "onnx"])
def test_a_file_that_is_not_the_network_is_refused_and_removed(
    name, trained, networks, tmp_path, monkeypatch
):
    net, other = networks
    written = {"write_weights": write_weights, "export_program": export_program}
    for function, write in written.items():
        monkeypatch.setattr(formats, function, lambda _, *rest, write=write: write(other, *rest))
    about = describe_network(trained.arguments | {"arch": "vgg11", "T": 1}, trained.description)
    tests = EvaluationSet(trained.data, ONE_PROCESS, 5)
    with pytest.raises(ValueError, match=r"not the network|does not hold what was written"):
        write_formats(Choice([name], None, {}), net, about, tests, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_format_has_a_file_of_its_own():
    assert len({form.file for form in FORMATS.values()}) == len(FORMATS) == 4
