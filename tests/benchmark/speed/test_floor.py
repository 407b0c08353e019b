"""The floor under a step: which operations it counts and runs, and where it draws its numbers."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmark.speed.floor import ConvolutionFloor
from benchmark.speed.workload import DTYPES, Workload
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


def test_each_precision_has_its_own_convolutions():
    """Forward, and backward: of counts of spikes, of images, and in branches."""
    expected = {  # amp: (stem, counts of spikes, branches), each forward and backward
        "none": ("float32 float32", "float32 float32", "float32 float32"),
        "bf16-backward": ("float32 bfloat16", "float32 bfloat16", "float32 float32"),
        "fp16": ("float32 bfloat16", "float16 bfloat16", "float32 float32"),
        "bf16": ("bfloat16 bfloat16",) * 3,
    }
    workload = Workload("resnet18", 3, 2, True, size=16, width=4, device="meta")
    net = build_model("resnet18", num_classes=2, T=3, width=4, branch_pool=None)
    depthwise = 4
    for amp, dtypes in DTYPES.items():
        stem, counts, *others = ConvolutionFloor(net, workload, dtypes).convolutions
        branch = next(c for c in others if c.operation.geometry.groups == depthwise)
        found = tuple(
            f"{c.train.dtype} {c.rate.dtype}".replace("torch.", "") for c in (stem, counts, branch)
        )
        assert found == expected[amp], amp
        assert all(c.operation.weight.dtype == c.train.dtype for c in (stem, counts, branch))
        assert all(c.backward_weight.dtype == c.grad.dtype == c.rate.dtype for c in others)
