"""Stages and branches from tables."""

from model.functional import Neuron
from model.kernel import DEFAULT_EXECUTION
from model.resnet import ResNet


def network(method: str) -> ResNet:
    common = {"in_channels": 3, "T": 2, "neuron": Neuron(), "execution": DEFAULT_EXECUTION}
    return ResNet(4, depths=(1, 3, 2), num_classes=5, branch_pool=None, method=method, **common)


def test_stages_follow_the_tables() -> None:
    stages = network("rate").stages
    assert [len(stage) for stage in stages] == [1, 3, 2]
    strides = [[block.unit1.conv.stride[0] for block in stage] for stage in stages]
    assert strides == [[1], [2, 1, 1], [2, 1]]
    assert [stage[-1].unit2.conv.out_channels for stage in stages] == [4, 8, 16]


def test_each_stage_but_the_last_has_a_branch() -> None:
    assert [len(branch.blocks) for branch in network("esd").branches] == [2, 1]
    assert len(network("rate").branches) == 0
