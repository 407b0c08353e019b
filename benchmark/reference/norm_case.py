"""Cases on which every implementation of batch norm per channel must agree with the equations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark.reference.kernel_case import exceeded
from model import functional
from model.kernel import NormState, reference

REPEATS = 3  # time steps that each map stands for


class NormResult(NamedTuple):
    """What is left of one batch: four constants, two statistics, three moved buffers."""

    mean: Tensor
    inverse_std: Tensor
    scale: Tensor
    shift: Tensor
    batch_mean: Tensor
    batch_variance: Tensor
    running_mean: Tensor
    running_var: Tensor
    batches: Tensor


@dataclass(frozen=True)
class NormCase:
    """Maps of mean `mean` and standard deviation 1; parameters and buffers in `state_dtype`."""

    shape: tuple[int, ...] = (6, 5, 7, 9)
    channels_last: bool = True
    dtype: torch.dtype = torch.float32
    state_dtype: torch.dtype = torch.float32
    mean: float = 1.0

    def __str__(self) -> str:
        dtypes = f"{self.dtype}-{self.state_dtype}".replace("torch.", "")
        layout = "nhwc" if self.channels_last else "nchw"
        return f"{'x'.join(map(str, self.shape))}-{layout}-{dtypes}-mean{self.mean:g}"

    def maps(self) -> Tensor:
        maps = torch.randn(self.shape, generator=torch.Generator().manual_seed(0)) + self.mean
        last = self.channels_last and len(self.shape) == 4
        layout = torch.channels_last if last else torch.contiguous_format
        return maps.to(self.dtype).contiguous(memory_format=layout)

    def state(self, device: str = "cpu") -> NormState:
        values = torch.rand(4, self.shape[1], generator=torch.Generator().manual_seed(1)) + 0.5
        tensors = (*values.to(device, self.state_dtype), torch.tensor(7, device=device))
        return NormState(*tensors, eps=1e-5, momentum=0.1)

    @property
    def count(self) -> int:
        return self.maps()[:, 0].numel() * REPEATS


def norm_case_problems(
    case: NormCase,
    batch_statistics: Callable,
    norm_constants: Callable,
    *,
    device: str = "cpu",
) -> list:
    """(name, error, allowed): twice the error of ATen's statistics, plus four roundings.

    The functions have the signatures of `reference`'s; device: where they run.
    """
    own = result(case, batch_statistics, norm_constants, device)
    plain = result(case, reference.batch_statistics, reference.norm_constants, "cpu")
    return exceeded(own, plain, truth(case))


def result(case: NormCase, statistics: Callable, constants: Callable, device: str) -> NormResult:
    maps, state = case.maps().to(device), case.state(device)
    values = constants(maps, state, case.count)
    found = (*values, *statistics(maps), *state[2:5])
    assert torch.equal(maps.cpu(), case.maps())
    return NormResult(*(value.cpu() for value in found))


def truth(case: NormCase) -> NormResult:
    """In float64, of maps without their mean, which is added afterwards."""
    state = NormState(*(v.double() for v in case.state()[:4]), *case.state()[4:])
    mean, variance = functional.batch_statistics(case.maps().double() - case.mean)
    statistics = torch.stack([mean + case.mean, variance])
    constants = reference.settled(*statistics, state, case.count)
    return NormResult(*constants, *statistics, *state[2:5])
