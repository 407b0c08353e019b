"""What every network of this project is: what a forward pass takes and what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import zip_longest

from torch import Tensor, nn

from model.activation import Activation
from model.branch_gradient import BRANCH_GRADIENTS
from model.functional import Neuron
from model.kernel import Execution
from model.layer import ConvNormLIF, LIFLayer, average_pool
from model.method import METHODS


class RateModel(nn.Module):
    """A spiking network, trained by one of `method.METHODS`.

    Subclasses build `stem`, `stages`, `classifier` and `branches` (one for each stage but the last,
    or none).

    pooled: side of the pooled map that the classifier reads.

    Args, of every network (`registry.build_model` checks them): in_channels C; T, the time steps
    where a call names no others; neuron, the LIF neurons' constants; method, a key of METHODS;
    execution, how it is computed; branch_gradient, a key of BRANCH_GRADIENTS.

    Shapes: T time steps, B batch, C channels, H x W pixels, K classes, N heads.
    """

    stem: nn.Module
    stages: nn.ModuleList
    classifier: nn.Module
    branches: nn.ModuleList
    pooled: int = 1

    def __init__(
        self,
        *,
        in_channels: int,
        T: int,
        neuron: Neuron,
        method: str,
        execution: Execution,
        branch_gradient: str = "joined",
    ):
        super().__init__()
        self.in_channels, self.T, self.neuron = in_channels, T, neuron
        self.method = METHODS[method]
        self.execution = execution
        self.branch_gradient = BRANCH_GRADIENTS[branch_gradient]

    def forward(self, x: Tensor | Activation, *, T: int | None = None) -> list[Tensor] | Tensor:
        """Logits of a batch.

        Args: x (B, C, H, W), a static image shown at every time step, or (T, B, C, H, W), frames;
        or an activation, such as the time steps that online training passes one by one. T: time
        steps of this batch, any for an image, its own for frames; None is the network's.
        Returns: in train mode the list of N logits (B, K), the spiking network's own last; in eval
        mode the latter's mean over time (B, K).
        Raises: ValueError for another shape, dtype, C or T, and for a T beside an activation.
        """
        if not self.training:
            return self.time_logits(x, T=T).mean(0)
        return self.head_logits(x, T=T)

    def head_logits(self, x: Tensor | Activation, *, T: int | None = None) -> list[Tensor]:
        """The list of N logits (B, K) in either mode, the spiking network's own last."""
        if self.training and self.method.online and isinstance(x, Tensor):
            return self.method.own_pass(self, x, T)
        heads, last = self._run(self._start(x, T), self.branches)
        return [*heads, self.classify(last).rate]

    def time_logits(self, x: Tensor, *, T: int | None = None) -> Tensor:
        """Logits of every time step, (T, B, K), in eval mode; arguments as of `forward`.

        Raises: ValueError as there, and in train mode.
        """
        return self.all_logits(x, T=T, branches=())[1]

    def all_logits(
        self, x: Tensor, *, T: int | None = None, branches: Iterable[nn.Module] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """In eval mode, logits (B, K) of branches (None: all) and the network's own, (T, B, K)."""
        if self.training:
            raise ValueError("logits of every time step belong to eval mode: call net.eval() first")
        heads, last = self._run(self._start(x, T), self.branches if branches is None else branches)
        return heads, self.classify(last).over_time()

    def classify(self, x: Activation) -> Activation:
        """The last stage's output (B, C, H, W) to logits (B, K), at every time step."""
        return self.classifier(x.map(partial(average_pool, side=self.pooled)))

    def spiking_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """(name, module) of every module whose output is a spike train, in forward order."""
        for name, module in self.named_modules():
            if isinstance(module, LIFLayer | ConvNormLIF):
                yield name, module

    def steps_of(self, x: Tensor, T: int | None) -> int:
        """Time steps of a batch x, which is checked; arguments as of `forward`."""
        T = self.T if T is None else T
        check_input(x, self.in_channels, T)
        return T

    def _start(self, x: Tensor | Activation, T: int | None) -> Activation:
        """What carries a batch: the method's activation in training, a spike train otherwise."""
        if not isinstance(x, Tensor):
            if T is not None:
                raise ValueError(f"an activation has its own time steps: leave T out, got {T}")
            return x
        kind = self.method.activation if self.training else self.method.evaluation
        return kind.start(x, self.steps_of(x, T), self)

    def _run(
        self, activation: Activation, branches: Iterable[nn.Module]
    ) -> tuple[list[Tensor], Activation]:
        """Logits (B, K) of the branches, and the last stage's output (B, C, H, W).

        Block by block, so that no spike train outlives the block that reads it.
        """
        heads = []
        # In evaluation an activation has no rate of its own to join gradients at.
        joined = self.branch_gradient if self.training else BRANCH_GRADIENTS["joined"]
        activation = self.stem(activation)
        for stage, branch in zip_longest(self.stages, branches):
            for block in stage:
                activation = block(activation)
            if branch is not None:  # its gradient reaches the stage through the rate
                rate, activation = joined.fork(activation)
                heads.append(branch(rate))
        return heads, activation


def check_count(name: str, value: object) -> None:
    """ValueError unless the value is a whole number >= 1."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")


def check_input(x: Tensor, in_channels: int, T: int | None = None) -> None:
    """ValueError unless x is a floating-point (B, C, H, W) or, with T, also (T, B, C, H, W)."""
    expected = "images (B, C, H, W)" + ("" if T is None else " or frames (T, B, C, H, W)")
    if x.dim() != 4 and (T is None or x.dim() != 5):
        raise ValueError(f"expected {expected}, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"expected {expected} of floating-point numbers, got {x.dtype}")
    if x.shape[-3] != in_channels:
        raise ValueError(f"expected {in_channels} input channels, got {x.shape[-3]}")
    if T is not None:
        check_count("T", T)
    if x.dim() == 5 and len(x) != T:
        raise ValueError(
            f"expected frames of T = {T} time steps, got {len(x)}: say T={len(x)} for another T"
        )
