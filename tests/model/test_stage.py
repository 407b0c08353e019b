"""Stages and branches from tables."""

from model.functional import Neuron
from model.method import METHODS
from model.resnet import BasicBlock
from model.stage import make_branches, make_stages


def test_stages_follow_the_tables() -> None:
    stages = make_stages(BasicBlock, (4, 8, 16), (1, 3, 2), steps=2, neuron=Neuron())
    assert [len(stage) for stage in stages] == [1, 3, 2]
    strides = [[block.unit1.conv.stride[0] for block in stage] for stage in stages]
    assert strides == [[1], [2, 1, 1], [2, 1]]
    assert [stage[-1].unit2.conv.out_channels for stage in stages] == [4, 8, 16]


def test_each_stage_but_the_last_has_a_branch() -> None:
    branches = make_branches((4, 8, 16), 5, method=METHODS["esd"], pool=None)
    assert [len(branch.blocks) for branch in branches] == [2, 1]
    assert len(make_branches((4, 8, 16), 5, method=METHODS["rate"], pool=None)) == 0
