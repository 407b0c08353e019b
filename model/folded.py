"""A trained network for inference alone: batch norms folded into convolutions, no branches.

With batch norm's running mean mu, variance V, gamma and beta, the layer after a convolution with
weight W and bias b is again a convolution, with

    scale = gamma / sqrt(V + eps),   W' = scale W,   b' = scale (b - mu) + beta

so the spike trains are those of the network that was trained, up to rounding. The result is made
of torch's own layers, `Neurons` and `Residual`, and runs over T steps at once (`forward`) or one
frame at a time (`step`, `Stream`).

Shapes: T time steps, B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from model.abc_model import RateModel
from model.functional import Neuron, reset
from model.layer import ConvNorm, ConvNormLIF, LIFLayer
from model.preact_resnet import PreActBlock
from model.resnet import BasicBlock

Fire = Callable[["Neurons", Tensor], Tensor]


class Neurons(nn.Module):
    """Where neurons fire; how (over all steps or over one) is the caller's business.

    label: the spiking layer's name in the network that was trained.
    """

    def __init__(self, label: str, neuron: Neuron):
        super().__init__()
        self.label, self.neuron = label, neuron

    def forward(self, current: Tensor, fire: Fire) -> Tensor:
        return fire(self, current)

    def advance(self, u: Tensor | None, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One time step of `functional.lif_rate`: u_{t-1} (None: rest), x_t -> v_t, s_t, u_t."""
        v = current if u is None else self.neuron.decay * u + current
        spikes = (v >= self.neuron.threshold).to(v.dtype)
        return v, spikes, reset(v, spikes, self.neuron.threshold, self.neuron.v_reset)

    def extra_repr(self) -> str:
        return f"{self.label}, {self.neuron}"


class Residual(nn.Module):
    """body(x) + shortcut(x), the current that runs into the next neurons or block."""

    def __init__(self, body: Iterable[nn.Module], shortcut: nn.Module):
        super().__init__()
        self.body, self.shortcut = nn.ModuleList(body), shortcut

    def forward(self, x: Tensor, fire: Fire) -> Tensor:
        return run(self.body, x, fire) + self.shortcut(x)


def run(layers: Iterable[nn.Module], x: Tensor, fire: Fire) -> Tensor:
    """Pass x through layers in order."""
    for layer in layers:
        x = layer(x, fire) if isinstance(layer, Neurons | Residual) else layer(x)
    return x


class FoldedNetwork(nn.Module):
    """A plain spiking network over T time steps.

    stem: what precedes the first neurons; runs once where the image is static.
    layers: everything after it, up to the logits.
    """

    def __init__(
        self, stem: Iterable[nn.Module], layers: Iterable[nn.Module], *, in_channels: int, T: int
    ):
        super().__init__()
        self.in_channels, self.T = in_channels, T
        self.stem, self.layers = nn.Sequential(*stem), nn.ModuleList(layers)

    def forward(self, x: Tensor, fire: Fire | None = None) -> Tensor:
        """Logits of every time step (T, B, K); their mean over the steps so far is the answer.

        Args: x (B, C, H, W), a static image, or (T, B, C, H, W), frames; fire: another way from
        currents (T*B, ...) to outputs, for example one that looks on (`observed`).
        Raises: ValueError if x has another shape.
        """
        self._check(x, frame=False)
        if x.dim() == 4:
            x = self.stem(x).repeat(self.T, 1, 1, 1)
        else:
            x = self.stem(x.flatten(0, 1))
        return run(self.layers, x, fire or self.over_time).unflatten(0, (self.T, -1))

    def over_time(self, neurons: Neurons, current: Tensor) -> Tensor:
        """Spikes (T*B, ...) of input currents (T*B, ...), from rest."""
        u, train = None, []
        for x_t in current.unflatten(0, (self.T, -1)).unbind(0):
            _, spikes, u = neurons.advance(u, x_t)
            train.append(spikes)
        return torch.stack(train).flatten(0, 1)

    def step(
        self, frame: Tensor, potentials: Sequence[Tensor] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """One time step; keeps no state itself.

        Args: frame (B, C, H, W); potentials: those that the previous step returned, one per
        spiking layer, or none at rest.
        Returns: logits of this step (B, K), and the membrane potentials after it.
        Raises: ValueError for another shape, or potentials that do not fit the frame.
        """
        self._check(frame, frame=True)
        before: Iterator[Tensor] = iter(potentials)
        after: list[Tensor] = []

        def fire(neurons: Neurons, current: Tensor) -> Tensor:
            u = next(before, None)
            if potentials and (u is None or u.shape != current.shape):
                raise ValueError(
                    f"potentials of {neurons.label} have shape {None if u is None else (*u.shape,)}"
                    f", expected {(*current.shape,)}: pass what the previous step of the same "
                    "batch returned"
                )
            _, spikes, u = neurons.advance(u, current)
            after.append(u)
            return spikes

        return run(self.layers, self.stem(frame), fire), after

    def neurons(self) -> list[Neurons]:
        """The spiking layers in forward order."""
        return [module for module in self.modules() if isinstance(module, Neurons)]

    def _check(self, x: Tensor, *, frame: bool) -> None:
        expected = "a frame (B, C, H, W)" if frame else "images (B, C, H, W) or (T, B, C, H, W)"
        if x.dim() != 4 and (frame or x.dim() != 5):
            raise ValueError(f"expected {expected}, got shape {tuple(x.shape)}")
        if x.shape[-3] != self.in_channels:
            raise ValueError(f"expected {self.in_channels} input channels, got {x.shape[-3]}")
        if x.dim() == 5 and x.shape[0] != self.T:
            raise ValueError(f"expected frames of T = {self.T} time steps, got {x.shape[0]}")


class Stream:
    """A network that watches: one frame in, the logits so far out; for any number of frames.

        stream = Stream(net)
        for frame in frames:                    # (B, C, H, W)
            logits = stream.step(frame)         # (B, K), the mean over the frames so far
        stream.reset()                          # before the next scene
    """

    def __init__(self, net: FoldedNetwork):
        self.net = net
        self.reset()

    def reset(self) -> None:
        """Forget what was seen: potentials at rest."""
        self.steps = 0
        self._potentials: list[Tensor] = []
        self._sum: Tensor | None = None

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor:
        """See one frame (B, C, H, W); returns the mean of the logits so far (B, K)."""
        logits, self._potentials = self.net.step(frame, self._potentials)
        self._sum = logits if self._sum is None else self._sum + logits
        self.steps += 1
        return self._sum / self.steps


def observed(net: FoldedNetwork, see: Callable[[Neurons, Tensor, Tensor], None]) -> Fire:
    """A `fire` that computes as ever and shows (neurons, current, spikes), both (T*B, ...)."""

    def fire(neurons: Neurons, current: Tensor) -> Tensor:
        spikes = net.over_time(neurons, current)
        see(neurons, current, spikes)
        return spikes

    return fire


def fold(net: RateModel) -> FoldedNetwork:
    """The same network for inference, in eval mode, with its own copy of the weights.

    Raises: ValueError for a network of blocks that are not known here.
    """
    stem: list[nn.Module] = [fold_convolution(net.stem)]
    layers: list[nn.Module] = []
    if isinstance(net.stem, ConvNormLIF):
        layers.append(Neurons("stem", net.neuron))
    else:
        stem.append(nn.MaxPool2d(3, 2, 1))
    for i, stage in enumerate(net.stages):
        for j, block in enumerate(stage):
            layers += _fold_block(block, f"stages.{i}.{j}", net.neuron)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    for i, layer in enumerate(net.classifier):
        if isinstance(layer, LIFLayer):
            layers.append(Neurons(f"classifier.{i}", net.neuron))
        else:
            layers.append(_copy_linear(layer))
    return FoldedNetwork(stem, layers, in_channels=net.in_channels, T=net.T).eval()


def _fold_block(block: nn.Module, name: str, neuron: Neuron) -> list[nn.Module]:
    """The layers of a block; in a PreAct block neurons precede each convolution."""
    first, second = fold_convolution(block.unit1), fold_convolution(block.unit2)
    shortcut = nn.Identity() if block.shortcut is None else fold_convolution(block.shortcut)
    between = Neurons(f"{name}.unit1", neuron)
    if isinstance(block, BasicBlock):
        body = [first, between, second]
        return [Residual(body, shortcut), Neurons(f"{name}.unit2", neuron)]
    if isinstance(block, PreActBlock):
        return [Residual([Neurons(f"{name}.fire", neuron), first, between, second], shortcut)]
    raise ValueError(f"cannot fold a {type(block).__name__}: expected BasicBlock or PreActBlock")


@torch.no_grad()
def fold_convolution(layer: ConvNorm) -> nn.Conv2d:
    """Convolution and batch norm (running statistics) as one convolution, computed in float64."""
    conv, norm = layer.conv, layer.norm
    folded = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size,
        tuple(stride * layer.subsampling for stride in conv.stride),
        conv.padding, conv.dilation, conv.groups,
        device=conv.weight.device, dtype=conv.weight.dtype,
    )  # fmt: skip
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = 0.0 if conv.bias is None else conv.bias.double()
    folded.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
    folded.bias.copy_(scale * (bias - norm.running_mean.double()) + norm.bias.double())
    return folded


@torch.no_grad()
def _copy_linear(layer: nn.Linear) -> nn.Linear:
    weight = layer.weight
    plain = nn.Linear(*weight.shape[::-1], device=weight.device, dtype=weight.dtype)
    plain.weight.copy_(weight)
    plain.bias.copy_(layer.bias)
    return plain
