"""The pictures of `look_inside`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from experiment.trained.part.activity import LayerActivity, Trace
from model import RateModel
from util.figure import BLUE, GRAY, RED, count_along, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLUMNS = 5  # of histograms
MAPS = 6  # channels drawn of a feature map


def draw_firing_rates(layers: Sequence[LayerActivity], title: str, path: Path) -> None:
    """One histogram per layer over its neurons; silent and saturated shares in its title."""
    rows = -(-len(layers) // COLUMNS)
    title = f"firing rates of the neurons: {title}"
    with drawing(path, 14, 1.0 + 2.1 * rows, title) as figure:
        for panel, layer in zip(_panels(figure, len(layers), COLUMNS), layers, strict=True):
            _draw_rates(panel, layer)
        figure.supxlabel("spikes per time step (red: mean of the layer)")
        figure.supylabel("share of neurons (%)")


def _panels(figure: Figure, count: int, columns: int) -> list[Axes]:
    """So many panels in rows; the places that are left in the last row stay empty."""
    panels = list(figure.subplots(-(-count // columns), columns, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_axis_off()
    return panels[:count]


def _draw_rates(panel: Axes, layer: LayerActivity) -> None:
    rates = layer.rates.flatten().numpy()
    shares = np.full(len(rates), 100 / len(rates))
    panel.hist(rates, bins=np.linspace(0, 1, 26), color=BLUE, weights=shares)
    panel.axvline(rates.mean(), color=RED, linewidth=1)
    extremes = f"silent {100 * layer.silent:.1f} %, saturated {100 * layer.saturated:.1f} %"
    panel.set_title(f"{layer.name}\n{extremes}", fontsize=9)
    panel.set_xlim(0, 1)
    panel.tick_params(labelsize=8)


def draw_potentials(traces: Sequence[Trace], threshold: float, title: str, path: Path) -> None:
    """One panel per neuron: leak and input up to v_t, then the reset where it fires."""
    columns = min(len(traces), 3)
    rows = -(-len(traces) // columns)
    title = f"membrane potentials: {title}"
    with drawing(path, 4.2 * columns, 0.8 + 2.7 * rows, title) as figure:
        for panel, trace in zip(_panels(figure, len(traces), columns), traces, strict=True):
            _draw_trace(panel, trace, threshold)
        figure.supxlabel("time step")
        figure.supylabel("membrane potential (arbitrary unit)")
        figure.axes[0].legend(fontsize=8)


def _draw_trace(panel: Axes, trace: Trace, threshold: float) -> None:
    """The way (t-1, u_{t-1}) -> (t, v_t) -> (t, u_t)."""
    times, values = [0.0], [0.0]
    for t, (v, u) in enumerate(zip(trace.before.tolist(), trace.after.tolist(), strict=True), 1):
        times += [t, t]
        values += [v, u]
    panel.plot(times, values, color=BLUE, linewidth=1.4, label="potential")
    panel.axhline(threshold, color=GRAY, linestyle="--", label="threshold")
    fired = [t for t, spike in enumerate(trace.spikes.tolist(), 1) if spike]
    panel.plot(fired, [trace.before[t - 1].item() for t in fired], "^", color=RED, label="spike")
    panel.set_title(trace.label, fontsize=9)
    panel.set_xlim(0, len(trace.before) + 0.2)
    count_along(panel.xaxis)
    panel.grid(alpha=0.3)


def draw_gradient_agreement(cosines: dict[str, float], title: str, path: Path) -> None:
    """One bar per layer: cosine between rate-based and BPTT gradients."""
    title = f"rate-based and BPTT gradients: {title}"
    with drawing(path, 10, 2.2 + 0.27 * len(cosines), title) as figure:
        panel = figure.subplots()
        colors = [RED if name == "all" else BLUE for name in cosines]
        bars = panel.barh(list(cosines), list(cosines.values()), color=colors)
        panel.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
        panel.invert_yaxis()
        lowest = min(0.0, *cosines.values())
        panel.set(ylabel="layer (weights)", xlim=(lowest - 0.12 * (lowest < 0), 1.1))
        panel.set_xlabel("cosine of the angle between the two gradients (1: same direction)")
        panel.grid(axis="x", alpha=0.3)


@torch.no_grad()
def draw_branch_maps(net: RateModel, image: Tensor, title: str, path: Path) -> None:
    """A row per branch: firing rates that it reads, and its first block's output."""
    rows = branch_maps(net, image)
    title = f"branch maps: {title}"
    with drawing(path, 2 + 1.25 * 2 * MAPS, 1.2 + 1.45 * len(rows), title) as figure:
        panels = figure.subplots(len(rows), 2 * MAPS, squeeze=False)
        for line, (number, (read, made)) in zip(panels, enumerate(rows, 1), strict=True):
            what = f"branch {number}\nreads rates"
            shown = _draw_maps(line[:MAPS], read, what, most=1.0, cmap="gray")
            figure.colorbar(shown, ax=list(line[:MAPS]), pad=0.01, label="spikes/step")
            most = max(made.max().item(), 1e-12)
            shown = _draw_maps(line[MAPS:], made, "output of block 1", most=most, cmap="viridis")
            figure.colorbar(shown, ax=list(line[MAPS:]), pad=0.01, label="activation")
        figure.supxlabel(f"the {MAPS} channels that vary most over the map")


def _draw_maps(
    panels: Sequence[Axes], maps: Tensor, what: str, *, most: float, cmap: str
) -> AxesImage:
    """Those channels of (C, H, W) that vary most, one in a panel; the last for a colour bar."""
    chosen = maps.flatten(1).var(1).argsort(descending=True).tolist()
    for panel in panels:
        panel.set(xticks=[], yticks=[])
    for panel, channel in zip(panels, chosen, strict=False):
        shown = panel.imshow(maps[channel].numpy(), vmin=0, vmax=most, cmap=cmap)
        panel.set_title(f"channel {channel}", fontsize=8)
    height, width = maps.shape[-2:]
    panels[0].set_ylabel(f"{what}\n{height} x {width} pixels", fontsize=8)
    return shown


def branch_maps(net: RateModel, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(firing rates read, output of the first block), each (C, H, W), of every branch."""
    seen: list[tuple[Tensor, Tensor]] = []

    def hook(module: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.append((inputs[0][0].cpu(), output[0].cpu()))

    with ExitStack() as hooks:
        for branch in net.branches:
            hooks.enter_context(branch.blocks[0].register_forward_hook(hook))
        net.head_logits(image)
    return seen
