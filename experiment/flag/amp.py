"""What --amp may be: the dtypes in which convolutions run."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Precision(NamedTuple):
    """A row of PRECISIONS.

    forward, backward: of the convolutions of rate-based layers, see `model.Execution`; "bf16" is
    autocast's instead, of every method and also in evaluation.
    """

    text: str
    forward: torch.dtype | None = None
    backward: torch.dtype | None = None

    @property
    def is_of_rates(self) -> bool:
        """Whether it is no more than a way to train rate-based layers."""
        return self.backward is not None

    @property
    def execution(self) -> dict[str, torch.dtype | None]:
        """Those fields of `model.Execution`."""
        return {"convolution_forward": self.forward, "convolution_backward": self.backward}


PRECISIONS = {
    "none": Precision("fp32"),
    "bf16-backward": Precision(
        "the spiking convolutions' backward in bfloat16, every spike as in fp32",
        backward=torch.bfloat16,
    ),
    "fp16": Precision(
        "also the forward of those that read spikes in float16, where spikes are exact; evaluated "
        "in fp32; slow on a CPU",
        forward=torch.float16,
        backward=torch.bfloat16,
    ),
    "bf16": Precision("all convolutions in bfloat16, neurons in fp32"),
}
