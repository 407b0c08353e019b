"""A trained network for inference alone: batch norms folded into convolutions, no branches.

It is made of torch's own layers and `Neurons` by `fold`, and runs over T steps at once (`forward`)
or one frame at a time (`step`; `stream` keeps what lies between the frames).

Shapes: T time steps, B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from model.abc_model import check_input
from model.functional import Neuron, accumulation_dtype
from model.layer import average_pool

# From neurons and their currents to what they hand on, of one shape: (T, B, ...) where a caller
# says how to fire, (N, ...) where layers call it on the maps that pass them.
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

    def over_time(self, current: Tensor) -> Tensor:
        """Spikes (T, B, ...) of input currents (T, B, ...), from rest."""
        u, train = None, []
        for x_t in current.unbind(0):
            _, spikes, u = self.advance(u, x_t)
            train.append(spikes)
        return torch.stack(train)

    def advance(self, u: Tensor | None, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One time step of `functional.lif_rate`: u_{t-1} (None: rest), x_t -> v_t, s_t, u_t.

        Potentials are never below fp32; spikes have the current's dtype.
        """
        x = current.to(accumulation_dtype(current.dtype))
        v = x if u is None else self.neuron.decay * u + x
        spikes = (v >= self.neuron.threshold).to(v.dtype)
        return v, spikes.to(current.dtype), self.neuron.reset(v, spikes)

    def extra_repr(self) -> str:
        return f"{self.label}, {self.neuron}"


class Block(nn.Module):
    """Layers in a row, or after(main(x) + shortcut(x)); (N, c_in, H, W) -> (N, c_out, ...).

    main, shortcut: layers by name; no layers are the identity, None is no shortcut.
    after: neurons that the sum drives, or None.
    """

    def __init__(
        self,
        main: dict[str, nn.Module],
        shortcut: dict[str, nn.Module] | None = None,
        after: Neurons | None = None,
    ):
        super().__init__()
        for name, layer in (main | (shortcut or {})).items():
            self.add_module(name, layer)
        self.main = tuple(main)
        self.shortcuts = None if shortcut is None else tuple(shortcut)
        self.after = after

    def forward(self, x: Tensor, fire: Fire) -> Tensor:
        out = self._run(self.main, x, fire)
        if self.shortcuts is not None:
            out = out + self._run(self.shortcuts, x, fire)
        return out if self.after is None else self.after(out, fire)

    def _run(self, names: tuple[str, ...], x: Tensor, fire: Fire) -> Tensor:
        for name in names:
            x = run_layer(self.get_submodule(name), x, fire)
        return x


def run_layer(layer: nn.Module, x: Tensor, fire: Fire) -> Tensor:
    """A layer of torch's, or neurons, which need to know how to fire."""
    return layer(x, fire) if isinstance(layer, Neurons | Block) else layer(x)


class FoldedNetwork(nn.Module):
    """A plain spiking network over T time steps; its parts have the names that they had.

    stem: what precedes the first neurons; runs once where the image is static.
    pooled: side of the pooled map that the classifier reads.
    """

    def __init__(
        self,
        stem: nn.Sequential,
        stem_neurons: Neurons | None,
        stages: nn.ModuleList,
        classifier: nn.ModuleList,
        *,
        in_channels: int,
        T: int,
        pooled: int = 1,
    ):
        super().__init__()
        self.in_channels, self.T, self.pooled = in_channels, T, pooled
        self.stem, self.stem_neurons = stem, stem_neurons
        self.stages, self.classifier = stages, classifier

    def forward(self, x: Tensor, fire: Fire = Neurons.over_time, *, T: int | None = None) -> Tensor:
        """Logits of every time step (T, B, K); their mean over the steps so far is the answer.

        Args: x (B, C, H, W), a static image, or (T, B, C, H, W), frames; fire: another way from
        currents to outputs, for example one that looks on (`observed`); T: time steps, any for an
        image, its own for frames; None is the network's.
        Raises: ValueError if x has another shape.
        """
        T = self.T if T is None else T
        check_input(x, self.in_channels, T)
        x = self.stem(x).repeat(T, 1, 1, 1) if x.dim() == 4 else self.stem(x.flatten(0, 1))
        return self.after_stem(x, on_maps(fire, T)).unflatten(0, (T, -1))

    def after_stem(self, x: Tensor, fire: Fire) -> Tensor:
        """The stem's output (N, C, H, W) -> logits (N, K), whatever N maps stand for."""
        if self.stem_neurons is not None:
            x = self.stem_neurons(x, fire)
        for stage in self.stages:
            for block in stage:
                x = run_layer(block, x, fire)
        x = average_pool(x, self.pooled)
        for layer in self.classifier:
            x = run_layer(layer, x, fire)
        return x

    def step(self, frame: Tensor, potentials: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
        """One time step; keeps no state itself.

        Args: frame (B, C, H, W); potentials: () before the first frame, when all neurons are at
        rest (potential 0, whatever v_reset is), then those that the previous step returned.
        Returns: logits of this step (B, K), whose mean over the steps is the answer, and the
        membrane potentials after it, (B, ...) for each of `neurons`.
        Raises: ValueError for another shape, or potentials that do not fit the frame.
        """
        check_input(frame, self.in_channels)
        before, after = iter(potentials), []

        def fire(neurons: Neurons, current: Tensor) -> Tensor:
            u = next(before, None)
            if u is not None and u.shape != current.shape:
                raise ValueError(
                    f"potentials of {neurons.label} have shape {(*u.shape,)}, expected "
                    f"{(*current.shape,)}: pass what the previous step of the same batch returned"
                )
            _, spikes, u = neurons.advance(u, current)
            after.append(u)
            return spikes

        logits = self.after_stem(self.stem(frame), fire)
        if potentials and len(potentials) != len(after):
            raise ValueError(
                f"got {len(potentials)} potentials for {len(after)} spiking layers: pass what the "
                "previous step of the same network returned"
            )
        return logits, after

    def neurons(self) -> list[Neurons]:
        """The spiking layers in forward order."""
        return [module for module in self.modules() if isinstance(module, Neurons)]


def on_maps(fire: Fire, T: int) -> Fire:
    """The same on maps (T*B, ...)."""
    return lambda neurons, current: fire(neurons, current.unflatten(0, (T, -1))).flatten(0, 1)


def observed(see: Callable[[Neurons, Tensor, Tensor], None]) -> Fire:
    """A `fire` that computes as ever and shows (neurons, current, spikes), both (T, B, ...)."""

    def fire(neurons: Neurons, current: Tensor) -> Tensor:
        spikes = neurons.over_time(current)
        see(neurons, current, spikes)
        return spikes

    return fire
