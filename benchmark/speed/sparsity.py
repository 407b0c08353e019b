"""Dense against sparse convolutions of spikes, for firing rates from silence to saturation.

    python -m benchmark.speed.sparsity                       resnet18, width 64, T 4, B 16, one core
    python -m benchmark.speed.sparsity --width 16 --firing 1 5 10 20
    python -m benchmark.speed.sparsity --output docs/benchmark

Every convolution of the network that reads spikes runs forward on T*B maps of random spikes; both
kinds in turn, medians. The dense one does not depend on the firing rate. (Training and inference
take, layer by layer, the one of which they expect less time.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmark.speed.census import layers_seen
from benchmark.speed.command import Parser, command_line, compiled_page, run
from benchmark.speed.measure import Rounds, median_seconds, undivided
from benchmark.speed.workload import SEED, Variant, Workload, build_network
from experiment.flag.kinds import Real
from model.convolution import Convolution
from model.kernel.sparse import spike_convolution
from util.figure import markdown_table

ALL_SPIKES = ("resnet18", "resnet19")  # whose convolutions behind the stem all read spikes
FIRING = (1, 5, 10, 20, 30, 50, 100)  # percent


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    text = "network (default: %(default)s)"
    add("--arch", choices=ALL_SPIKES, default="resnet18", help=text)
    parser.add_shared(width=None, T=4, batch=16, size=32)
    kind, text = Real(0, 100), f"firing rates (default: {' '.join(map(str, FIRING))})"
    add("--firing", type=kind, nargs="+", default=FIRING, metavar="PERCENT", help=text)
    parser.add_shared(repeats=5, threads=1)
    parser.add_output("also write sparsity.md there")
    return parser


class SpikeConvolutions:
    """All convolutions of a network but the stem, on random spikes.

    firing: spikes per neuron and time step, 0 to 1.
    """

    def __init__(self, workload: Workload, firing: float):
        net = build_network(Variant("dense"), workload)
        self.cases: list[tuple[Tensor, Tensor, Convolution]] = []
        for seen in layers_seen(net, workload):
            if not seen.reads_counts or seen.convolution is None:
                continue
            conv = seen.convolution
            spikes = torch.rand(workload.T * workload.batch, *seen.source) < firing
            spikes = spikes.to(torch.uint8).contiguous(memory_format=torch.channels_last)
            conv.to(memory_format=torch.channels_last)
            self.cases.append((spikes, spikes.float(), Convolution.of(conv)))

    @torch.no_grad()
    def dense(self) -> None:
        for _, maps, convolution in self.cases:
            convolution(maps)

    @torch.no_grad()
    def sparse(self) -> None:
        for spikes, _, convolution in self.cases:
            spike_convolution.convolve(spikes, convolution, most=1.0)


def measured_table(workload: Workload, firing: Sequence[float], rounds: Rounds) -> str:
    """Markdown, a row per firing rate in percent."""
    rows = []
    for percentage in firing:
        torch.manual_seed(SEED)
        own = SpikeConvolutions(workload, percentage / 100)
        seconds = median_seconds([undivided(own.dense), undivided(own.sparse)], rounds, "cpu")
        dense, sparse = (1e3 * s["step"] for s in seconds)
        speed_up = f"{dense / sparse:.2f}"
        rows.append([f"{percentage:g} %", f"{dense:.1f}", f"{sparse:.1f}", speed_up])
    return markdown_table(["firing rate", "dense, ms", "sparse, ms", "speed-up"], rows, left=0)


def main(argv: Sequence[str] | None = None) -> str:
    parser = get_parser()
    args = parser.parse_args(argv)
    paragraphs = [
        "# Convolutions of spikes, dense and sparse",
        f"    {command_line('sparsity', argv)}",
    ]

    def table(workload: Workload) -> str:
        return measured_table(workload, args.firing, Rounds(args.repeats))

    return compiled_page(parser, args, paragraphs, table, "sparsity.md")


if __name__ == "__main__":
    run(main)
