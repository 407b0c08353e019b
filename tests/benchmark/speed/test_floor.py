"""The floor under a step: which operations it counts and runs, and where it draws its numbers."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmark.speed.floor import ConvolutionFloor
from benchmark.speed.workload import Workload
from model import build_model


def floor_and_branches(branches: bool, device: str = "cpu"):
    workload = Workload("resnet18", 3, 2, branches, size=16, width=4, device=device)
    method = "esd" if branches else "rate"
    net = build_model("resnet18", num_classes=2, T=3, width=4, branch_pool=None, method=method)
    return ConvolutionFloor(net, workload), net.branches


def test_floor_counts_the_operations_that_it_runs():
    """T*B forward but for the stem, B backward; torch counts them by itself."""
    floor, _ = floor_and_branches(False)
    with FlopCounterMode(display=False) as counter:
        floor()
    assert 2 * floor.multiply_adds() == counter.get_total_flops()


def test_branches_add_their_convolutions_on_rates_to_the_floor():
    """Forward once, and twice as much backward (torch miscounts that of grouped convolutions)."""
    bare, _ = floor_and_branches(False)
    floor, branches = floor_and_branches(True)
    with FlopCounterMode(display=False) as counter:
        for i, branch in enumerate(branches):
            branch(torch.rand(2, 4 * 2**i, 16 // 2**i, 16 // 2**i))
    classifiers = len(branches) * 2 * 2 * 32 * 2
    added = 2 * (floor.multiply_adds() - bare.multiply_adds())
    assert added == 3 * (counter.get_total_flops() - classifiers)
    floor()


class RandomNumbers(TorchDispatchMode):
    """Notes where random numbers are drawn."""

    def __init__(self):
        super().__init__()
        self.devices = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in function.tags and torch.is_tensor(out):
            self.devices.add(out.device.type)
        return out


def test_floor_draws_its_numbers_where_it_runs():
    """Seen on the meta device, which stands for a GPU: hundreds of millions at full size."""
    net = build_model("resnet18", num_classes=2, T=3, width=4, branch_pool=None)
    workload = Workload("resnet18", 3, 2, True, size=16, width=4, device="meta")
    with RandomNumbers() as drawn:
        floor = ConvolutionFloor(net, workload)
    assert drawn.devices == {"meta"}
    floor()


def strides_of_pointwise(device: str) -> set[int]:
    floor, _ = floor_and_branches(True, device)
    return {
        c.operation.geometry.stride[0]
        for c in floor.convolutions
        if c.operation.weight[0, 0].numel() == 1
    }


def test_only_on_a_cpu_the_floor_takes_pixels_first():
    """There the backward of a strided pointwise convolution may write out of bounds."""
    assert strides_of_pointwise("cpu") == {1}
    assert strides_of_pointwise("meta") == {1, 2}
    cpu, meta = (floor_and_branches(True, device)[0] for device in ("cpu", "meta"))
    assert cpu.multiply_adds() == meta.multiply_adds()
