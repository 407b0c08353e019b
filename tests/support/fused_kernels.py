"""The kernels of fused optimizers on a GPU, seen without one."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

FUSED = (torch.ops.aten._fused_sgd_.tensor_lr, torch.ops.aten._fused_adam_.tensor_lr)


class FusedKernels(TorchDispatchMode):
    """Takes the place of those kernels, of which fake tensors know nothing, and asks for what they
    do: gradients and state like their parameters, all other numbers as fp32 on the device.

    parameters: how many were updated.
    """

    def __init__(self):
        super().__init__()
        self.parameters = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function not in FUSED:
            return function(*args, **(kwargs or {}))
        parameters, *others = (values for values in args if values)
        for values in others:
            of_maps = values[0].dim() > 0
            for parameter, value in zip(parameters, values, strict=True):
                assert (value.dtype, value.device) == (torch.float32, parameter.device)
                assert not of_maps or value.stride() == parameter.stride()
        for number in (kwargs["lr"], kwargs["found_inf"]):
            assert (number.dtype, number.device) == (torch.float32, parameters[0].device)
        assert not kwargs.get("is_first_step"), "the momenta would be uninitialised memory"
        self.parameters += len(parameters)
        return None
