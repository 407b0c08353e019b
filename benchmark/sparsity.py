"""Dense against sparse convolutions of spikes, for firing rates from silence to saturation.

    python benchmark/sparsity.py                           resnet18, width 64, T 4, B 16, one core
    python benchmark/sparsity.py --width 16 --firing 1 5 10 20
    python benchmark/sparsity.py --output docs/benchmark

Every convolution of the network that reads spikes runs forward on T*B maps of random spikes; both
kinds in turn, medians. The dense one does not depend on the firing rate.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # from any folder; and `profile.py` must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor

from benchmark.command import Parser, run, whole_number
from benchmark.contestant import SEED, Workload
from benchmark.floor import convolution_shapes
from benchmark.measure import interleaved_seconds, machine, median
from experiment.flag_parser import expanded_path, number
from model import build_model
from model.convolution import Convolution
from model.kernel.sparse import spike_convolution
from util.text import as_utf8

ALL_SPIKES = ("resnet18", "resnet19")  # whose convolutions behind the stem all read spikes
FIRING = (1, 5, 10, 20, 30, 50, 100)  # percent


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--arch", choices=ALL_SPIKES, default="resnet18", help="network (default: %(default)s)")
    add("--width", type=whole_number, default=None,
        help="channels of the first stage (default: the paper's)")  # fmt: skip
    add("--T", type=whole_number, default=4, help="time steps (default: %(default)s)")
    add("--batch", type=whole_number, default=16, help="samples B (default: %(default)s)")
    add("--size", type=whole_number, default=32, help="pixels per side (default: %(default)s)")
    add("--firing", type=number(float, 0, 100), nargs="+", default=FIRING, metavar="PERCENT",
        help=f"firing rates (default: {' '.join(map(str, FIRING))})")  # fmt: skip
    add("--repeats", type=whole_number, default=5, help="timed rounds (default: %(default)s)")
    add("--threads", type=whole_number, default=1, help="CPU threads (default: %(default)s)")
    add(
        "--output",
        type=expanded_path,
        default=None,
        metavar="FOLDER",
        help="also write sparsity.md there",
    )
    return parser


class Convolutions:
    """All convolutions of a network but the stem, on random spikes."""

    def __init__(self, workload: Workload, firing: float):
        net = build_model(
            workload.arch, num_classes=workload.num_classes, T=workload.T, width=workload.width,
            branch_pool=None, method="rate",
        )  # fmt: skip
        self.cases: list[tuple[Tensor, Tensor, Convolution]] = []
        _, *others = convolution_shapes(net, workload)
        for conv, shape in others:
            spikes = torch.rand(workload.T * workload.batch, *shape) < firing
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
            spike_convolution.convolve(spikes, convolution)


def measured(workload: Workload, firing: Sequence[float], repeats: int) -> str:
    """A markdown table, a row per firing rate in percent."""
    lines = ["| firing rate | dense, ms | sparse, ms | speed-up |", "|--:|--:|--:|--:|"]
    for percentage in firing:
        torch.manual_seed(SEED)
        own = Convolutions(workload, percentage / 100)
        steps = [own.dense, own.sparse]
        seconds = interleaved_seconds(steps, repeats=repeats, warmup=1, device="cpu")
        dense, sparse = (1e3 * median(s) for s in seconds)
        lines.append(f"| {percentage:g} % | {dense:.1f} | {sparse:.1f} | {dense / sparse:.2f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> str:
    parser = get_parser()
    args = parser.parse_args(argv)
    parser.make_folder(args.output)
    torch.set_num_threads(args.threads)
    if not spike_convolution.is_available():
        parser.error("sparse convolutions could not be compiled here, for the reason given above")
    arguments = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "benchmark/sparsity.py", *arguments])
    described = ", ".join(f"{key} {value}" for key, value in machine("cpu").items())
    workload = Workload(args.arch, args.T, args.batch, False, args.size, width=args.width)
    width = "published width" if args.width is None else f"width {args.width}"
    setting = (
        f"{args.arch}, {width}, {args.size}x{args.size} pixels, T = {args.T}, B = {args.batch}"
    )
    table = measured(workload, args.firing, args.repeats)
    title = "# Convolutions of spikes, dense and sparse"
    text = f"{title}\n\n    {command}\n\n{described}\n\n{setting}\n\n{table}\n"
    print(text)
    parser.write(args.output, [("sparsity.md", as_utf8(text))])
    return text


if __name__ == "__main__":
    run(main)
