"""A trained network for inference alone: batch norms folded into convolutions, no branches.

It is made of torch's own layers and `Neurons` by `fold`, and runs over T steps at once (`forward`)
or one frame at a time (`step`; `stream` keeps what lies between the frames).

Shapes: T time steps, B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from model.abc_model import check_input
from model.functional import Neuron, accumulation_dtype
from model.layer import average_pool

# From neurons, their currents and what is added to those (or None) to what they hand on, of one
# shape: (T, B, ...) where a caller says how to fire, (N, ...) where layers call it on the maps that
# pass them.
Fire = Callable[["Neurons", Tensor, Tensor | None], Tensor]


class Neurons(nn.Module):
    """Where neurons fire; how (over all steps or over one) is the caller's business.

    label: the spiking layer's name in the network that was trained.
    """

    def __init__(self, label: str, neuron: Neuron):
        super().__init__()
        self.label, self.neuron = label, neuron

    def forward(self, current: Tensor, fire: Fire, residual: Tensor | None = None) -> Tensor:
        """What current + residual makes them fire; both (N, ...)."""
        return fire(self, added(current, residual), None)

    def over_time(self, current: Tensor, residual: Tensor | None = None) -> Tensor:
        """Spikes (T, B, ...) of input currents (T, B, ...), from rest; residual: added to them."""
        u, train = None, []
        for x_t in added(current, residual).unbind(0):
            _, spikes, u = self.advance(u, x_t)
            train.append(spikes)
        return torch.stack(train)

    def step(
        self, u: Tensor | None, current: Tensor, residual: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One time step: u_{t-1} (None: rest), x_t -> s_t, u_t; residual: added to x_t."""
        return self.advance(u, added(current, residual))[1:]

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


def added(current: Tensor, residual: Tensor | None) -> Tensor:
    return current if residual is None else current + residual


def as_ever(neurons: Neurons, current: Tensor, residual: Tensor | None) -> Tensor:
    """A `Fire`: spikes (T, B, ...) of the neurons as they are."""
    return neurons.over_time(current, residual)


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
        residual = None if self.shortcuts is None else self._run(self.shortcuts, x, fire)
        return added(out, residual) if self.after is None else self.after(out, fire, residual)

    def _run(self, names: tuple[str, ...], x: Tensor, fire: Fire) -> Tensor:
        for name in names:
            layer = self.get_submodule(name)
            x = layer(x, fire) if isinstance(layer, Neurons) else layer(x)
        return x


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

    def forward(self, x: Tensor, fire: Fire = as_ever, *, T: int | None = None) -> Tensor:
        """Logits of every time step (T, B, K); their mean over the steps so far is the answer.

        Args: x (B, C, H, W), a static image, or (T, B, C, H, W), frames; fire: another way from
        currents to outputs, for example one that looks on (`observed`); T: time steps, any for an
        image, its own for frames; None is the network's.
        Raises: ValueError if x has another shape.
        """
        T = self.T if T is None else T
        check_input(x, self.in_channels, T)
        # Put together, maps keep their layout, which they lose when they are repeated.
        x = torch.cat([self.stem(x)] * T) if x.dim() == 4 else self.stem(x.flatten(0, 1))
        return self.after_stem(x, on_maps(fire, T)).unflatten(0, (T, -1))

    def after_stem(self, x: Tensor, fire: Fire) -> Tensor:
        """The stem's output (N, C, H, W) -> logits (N, K), whatever N maps stand for."""
        numbers = x.dtype  # what pools and linear layers read; spikes may be bytes (`skipping`)
        if self.stem_neurons is not None:
            x = self.stem_neurons(x, fire)
        for layer in chain.from_iterable(self.stages):
            x = layer(x, fire) if isinstance(layer, Neurons | Block) else layer(x.to(numbers))
        x = average_pool(x.to(numbers), self.pooled)
        for layer in self.classifier:
            x = layer(x, fire) if isinstance(layer, Neurons) else layer(x.to(numbers))
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
        return self.step_after_stem(self.stem(frame), potentials)

    def step_after_stem(
        self, x: Tensor, potentials: Sequence[Tensor] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """`step`, given the stem's output for its frame: the same at each step of an image."""
        before, after = iter(potentials), []

        def fire(neurons: Neurons, current: Tensor, residual: Tensor | None) -> Tensor:
            u = next(before, None)
            if u is not None and u.shape != current.shape:
                raise ValueError(
                    f"potentials of {neurons.label} have shape {(*u.shape,)}, expected "
                    f"{(*current.shape,)}: pass what the previous step of the same batch returned"
                )
            spikes, u = neurons.step(u, current, residual)
            after.append(u)
            return spikes

        logits = self.after_stem(x, fire)
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

    def fire_on_maps(neurons: Neurons, *maps: Tensor | None) -> Tensor:
        over_time = (None if own is None else own.unflatten(0, (T, -1)) for own in maps)
        return fire(neurons, *over_time).flatten(0, 1)

    return fire_on_maps


def observed(see: Callable[[Neurons, Tensor, Tensor], None]) -> Fire:
    """A `fire` that computes as ever and shows (neurons, current, spikes), all (T, B, ...)."""

    def fire(neurons: Neurons, current: Tensor, residual: Tensor | None) -> Tensor:
        spikes = as_ever(neurons, current, residual)
        see(neurons, added(current, residual), spikes)
        return spikes

    return fire
