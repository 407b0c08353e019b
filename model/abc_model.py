"""What every network of this project is: what a forward pass takes and what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

import torch
from torch import Tensor, nn

from model.functional import Neuron
from model.input import check_images
from model.kernel import Execution
from model.layer import Activation, ConvNormLIF, LIFLayer, average_pool
from model.method import METHODS
from model.online import Memory, OnlineStep
from model.rate_pair import RatePair
from model.recompute import recomputed
from model.still import Still


class RateModel(nn.Module):
    """A spiking network over T time steps, trained by one of `method.METHODS`.

    Subclasses build `stem`, `stages`, `classifier` and `branches` (one for each stage but the last,
    or none).

    pooled: side of the pooled map that the classifier reads.

    Args, of every network (`registry.build_model` checks them): in_channels C; T time steps;
    neuron, the LIF neurons' constants; method, a key of METHODS; execution, how it is computed.

    Shapes: T time steps, B batch, C channels, H x W pixels, K classes, N heads.
    """

    stem: nn.Module
    stages: nn.ModuleList
    classifier: nn.Module
    branches: nn.ModuleList
    pooled: int = 1

    def __init__(
        self, *, in_channels: int, T: int, neuron: Neuron, method: str, execution: Execution
    ):
        super().__init__()
        self.in_channels, self.T, self.neuron = in_channels, T, neuron
        self.method = METHODS[method]
        self.execution = execution

    def classify(self, x: Activation) -> Activation:
        """The last stage's output (T*B, C, H, W) to logits (T*B, K)."""
        return self.classifier(average_pool(x, self.pooled))

    def forward(self, x: Tensor, memory: Memory | None = None) -> list[Tensor] | Tensor:
        """Logits of a batch.

        Args: x (B, C, H, W), a static image shown at every time step, or (T, B, C, H, W), frames;
        with a memory, x is what one time step of online training sees, see `training_passes`.
        Returns: in train mode the list of N logits (B, K), the spiking network's own last; in eval
        mode the latter's mean over time (B, K).
        Raises: ValueError if x has another shape or is not of floating-point numbers; for a memory
        where the method is not online.
        """
        if not self.training:
            return self.time_logits(x).mean(0)
        if memory is not None:
            if not self.method.online:
                raise ValueError("a memory is for online methods (sltt, ottt): call net(x) alone")
            return [self._step_logits(x, memory)]
        return self.head_logits(x)

    def training_passes(self, x: Tensor) -> Iterator[tuple]:
        """Arguments of each call of `forward` that a step of training consists of.

        One call with the whole input; for an online method one per time step, whose losses are
        averaged and whose backward passes follow one another, each before the next call.
        """
        if not self.method.online:
            yield (x,)
            return
        check_images(x, self.in_channels, self.T)
        memory: Memory = {}
        for t in range(self.T):
            yield (x if x.dim() == 4 else x[t]), memory

    @property
    def passes(self) -> int:
        """How many `training_passes` there are."""
        return self.T if self.method.online else 1

    def head_logits(self, x: Tensor) -> list[Tensor]:
        """The list of N logits (B, K) in either mode, the spiking network's own last."""
        if self.training and self.method.online:
            steps = [self._step_logits(*arguments) for arguments in self.training_passes(x)]
            return [torch.stack(steps).mean(0)]
        heads, last = self._run(x, self.branches)
        return [*heads, self._rate(self.classify(last))]

    def time_logits(self, x: Tensor) -> Tensor:
        """Logits of every time step, (T, B, K), in eval mode; x as in `forward`."""
        return self._logits_in_eval(x, ())[1]

    def all_logits(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """In eval mode the branches' logits (B, K) and the network's own of all steps (T, B, K)."""
        return self._logits_in_eval(x, self.branches)

    def _logits_in_eval(
        self, x: Tensor, branches: Iterable[nn.Module]
    ) -> tuple[list[Tensor], Tensor]:
        """Logits of the branches (B, K), and the network's own of every time step (T, B, K)."""
        if self.training:
            raise ValueError("logits of every time step belong to eval mode: call net.eval() first")
        heads, last = self._run(x, branches)
        return heads, self.classify(last).unflatten(0, (self.T, -1))

    def spiking_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """(name, module) of every module whose output is a spike train, in forward order."""
        for name, module in self.named_modules():
            if isinstance(module, LIFLayer | ConvNormLIF):
                yield name, module

    def _run(self, x: Tensor, branches: Iterable[nn.Module]) -> tuple[list[Tensor], Activation]:
        """Logits (B, K) of the branches, and the last stage's output (T*B, C, H, W).

        Block by block, so that no spike train outlives the block that reads it.
        """
        heads = []
        activation = self._apply_block(self.stem, self._encode(x))
        if isinstance(activation, Still):  # the stem has no neurons
            activation = activation.repeated()
        for stage, branch in zip_longest(self.stages, branches):
            for block in stage:
                activation = self._apply_block(block, activation)
            if branch is not None:
                heads.append(branch(self._rate(activation)))
        return heads, activation

    def _apply_block(self, block: nn.Module, x: Activation) -> Activation:
        """block(x), which keeps x alone if the method recomputes."""
        if self.method.recomputes and self.training and torch.is_grad_enabled():
            return recomputed(block, x)
        return block(x)

    def _step_logits(self, x: Tensor, memory: Memory) -> Tensor:
        """Logits (B, K) of the next time step of online training for its input (B, C, H, W)."""
        check_images(x, self.in_channels)
        trace_decay = self.neuron.decay if self.method.traces else None
        activation = self.stem(OnlineStep(x, None, memory, trace_decay))
        for stage in self.stages:
            activation = stage(activation)
        return self.classify(activation).value

    def _encode(self, x: Tensor) -> Activation:
        """The pair of rate-based training; else a still image or the plain (T*B, C, H, W)."""
        check_images(x, self.in_channels, self.T)
        if self.training and self.method.by_rates:
            train, rate = (x, x) if x.dim() == 4 else (x.flatten(0, 1), x.mean(0))
            return RatePair(train, rate, execution=self.execution)
        return Still(x, self.T) if x.dim() == 4 else x.flatten(0, 1)

    def _rate(self, activation: Activation) -> Tensor:
        """The time mean (B, ...) of an activation."""
        if isinstance(activation, RatePair):
            return activation.rate
        return activation.unflatten(0, (self.T, -1)).mean(0)
