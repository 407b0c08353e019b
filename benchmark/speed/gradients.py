"""Gradients of a network's convolutions of spikes, dense and by minimal filtering, by layer.

    python -m benchmark.speed.gradients                      resnet18, width 64, T 4, B 16, one core
    python -m benchmark.speed.gradients --batch 128 --threads 2
    python -m benchmark.speed.gradients --output docs/benchmark

The layers are those in which training filters; both kinds in turn, medians, at counts of random
spikes of T time steps. Errors are those of the gradients of input and weight, in norm, against
float64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from benchmark.speed.census import layers_seen
from benchmark.speed.command import Parser, command_line, compiled_page, run
from benchmark.speed.measure import Rounds, median_seconds, undivided
from benchmark.speed.workload import SEED, Variant, Workload, build_network
from model.convolution import Convolution, convolution_backward
from model.kernel.sparse import convolution_gradients
from util.figure import markdown_table

ERRORS = "error of input's, weight's"
HEAD = ["layers", "maps", "dense, ms", ERRORS, "filtered, ms", ERRORS, "speed-up"]
FIRING = 0.2  # of the random spikes, per neuron and time step

Case = tuple[Tensor, Tensor, Tensor]  # gradient, counts, weight


def get_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_shared(arch="resnet18", width=None, T=4, batch=16, size=32, repeats=5, threads=1)
    parser.add_output("also write gradients.md there")
    return parser


def dense(grad: Tensor, counts: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    geometry, needs = convolution_gradients.GEOMETRY, (True, True, False)
    return convolution_backward(grad, counts.to(grad.dtype), weight, geometry, needs)[:2]


def cases_of(workload: Workload) -> Counter[tuple[int, ...]]:
    """(C, Ci, H, W) of the layers that can be filtered, and how many of a network are of it."""
    found: Counter[tuple[int, ...]] = Counter()
    for seen in layers_seen(build_network(Variant("dense"), workload), workload):
        if seen.convolution is None or not seen.reads_counts:
            continue
        weight, _, geometry = Convolution.of(seen.convolution)
        counts = torch.empty(workload.batch, *seen.source, dtype=torch.uint8)
        if convolution_gradients.can_filter(counts, weight, geometry):
            found[(len(weight), *seen.source)] += 1
    return found


def random_case(workload: Workload, sizes: tuple[int, ...]) -> Case:
    C, Ci, H, W = sizes
    grad = torch.randn(workload.batch, C, H, W)
    counts = (torch.rand(workload.T, workload.batch, Ci, H, W) < FIRING).sum(0).to(torch.uint8)
    tensors = grad, counts, torch.randn(C, Ci, 3, 3)
    return tuple(tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors)


def errors_in_words(found: Sequence[Tensor], exact: Sequence[Tensor]) -> str:
    """Those of input and weight, relative."""
    pairs = zip(found, exact, strict=True)
    return ", ".join(f"{(own - truth).norm() / truth.norm():.1e}" for own, truth in pairs)


def layer_table(workload: Workload, rounds: Rounds) -> str:
    """Markdown, a row for each size of layer. Raises: ValueError where none can be filtered."""
    rows, ways = [], (dense, convolution_gradients.filtered_gradients)
    for sizes, layers in cases_of(workload).items():
        torch.manual_seed(SEED)
        grad, counts, weight = case = random_case(workload, sizes)
        steps = [undivided(partial(way, *case)) for way in ways]
        slow, quick = (1e3 * s["step"] for s in median_seconds(steps, rounds, "cpu"))
        exact = dense(grad.double(), counts, weight.double())
        C, Ci, H, W = sizes
        maps = f"{Ci} to {C} channels, {H}x{W}"
        errors = [errors_in_words(way(*case), exact) for way in ways]
        cells = [f"{slow:.1f}", errors[0], f"{quick:.1f}", errors[1], f"{slow / quick:.2f}"]
        rows.append([str(layers), maps, *cells])
    if not rows:
        raise ValueError(f"no layer of {workload.in_words()} is filtered: try a larger --width")
    return markdown_table(HEAD, rows, left=2)


def main(argv: Sequence[str] | None = None) -> str:
    parser = get_parser()
    args = parser.parse_args(argv)
    paragraphs = [
        "# Gradients of convolutions, dense and by minimal filtering",
        f"    {command_line('gradients', argv)}",
    ]

    def table(workload: Workload) -> str:
        return layer_table(workload, Rounds(args.repeats))

    return compiled_page(parser, args, paragraphs, table, "gradients.md")


if __name__ == "__main__":
    run(main)
