"""Spikes that flip where a layer's own convolution is rounded, layer by layer.

    python -m benchmark.speed.precision                     resnet18, width 64, T 4, B 16, one core
    python -m benchmark.speed.precision --run runs/RUN/best.pt     also a trained network, on the
                                                            first images of its test set
    python -m benchmark.speed.precision --output docs/benchmark

Every layer that reads spikes and fires is given the exact spikes and residual of float64, and
computed again with its convolution in each dtype. Spikes are exact in all of them. fp16 and bf16
round the weights and the currents, as on a GPU; TF32, which a CPU has not, is fp32 with weights
rounded to its 10 bits of mantissa. Statistics are the batch's, neurons and norms fp32 or better.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from benchmark.speed.command import Parser, command_line, run, workload_of
from benchmark.speed.measure import machine, machine_in_words
from benchmark.speed.workload import SEED, Variant, build_network
from experiment.flag.kinds import expanded_path
from experiment.trained.part.trained_network import load_trained
from model import Execution, RateModel
from model.layer import ConvNormLIF
from model.rate_pair import RatePair
from util.figure import markdown_table

TF32_BITS = 10  # of the mantissa, beside the leading one


def in_dtype(layer: ConvNormLIF, dtype: torch.dtype) -> tuple[ConvNormLIF, Execution]:
    return layer, Execution(convolution_forward=dtype)


def in_tf32(layer: ConvNormLIF) -> tuple[ConvNormLIF, Execution]:
    layer = copy.deepcopy(layer)
    layer.conv.weight.copy_(rounded(layer.conv.weight, TF32_BITS))
    return in_dtype(layer, torch.float32)


ROUNDINGS: dict[str, Callable[[ConvNormLIF], tuple[ConvNormLIF, Execution]]] = {
    "fp32": lambda layer: in_dtype(layer, torch.float32),
    "TF32": in_tf32,
    "fp16": lambda layer: in_dtype(layer, torch.float16),
    "bf16": lambda layer: in_dtype(layer, torch.bfloat16),
}


def rounded(values: Tensor, bits: int) -> Tensor:
    """The nearest numbers with so many bits of mantissa beside the leading one."""
    mantissa, exponent = torch.frexp(values)  # in [1/2, 1)
    steps = 2 ** (bits + 1)
    return torch.ldexp((mantissa * steps).round() / steps, exponent)


class Flips:
    """Of each layer of a network on a batch: values of the train, spikes, and flips by rounding."""

    def __init__(self, net: RateModel, x: Tensor):
        self.layers: dict[str, Counter[str]] = {}
        net.double().train().execution = Execution()
        handles = [
            layer.register_forward_hook(self._counter(name))
            for name, layer in net.spiking_layers()
            if isinstance(layer, ConvNormLIF)
        ]
        with torch.no_grad():
            net(RatePair.start(x.double(), net.T, net))
        for handle in handles:
            handle.remove()

    def _counter(self, name: str) -> Callable[[nn.Module, tuple[RatePair, ...], RatePair], None]:
        def count(layer: ConvNormLIF, inputs: tuple[RatePair, ...], out: RatePair) -> None:
            x, *residual = inputs
            if not x.facts.max_count:  # images, currents: they are no spikes
                return
            exact = out.train > 0
            found = self.layers[name] = Counter(values=exact.numel(), spikes=int(exact.sum()))
            for rounding, prepared in ROUNDINGS.items():
                other, execution = prepared(layer)
                own = x._replace(facts=x.facts._replace(execution=execution))
                spikes = own.conv_norm(other, *residual, neuron=layer.neuron).train > 0
                found[rounding] = int((spikes != exact).sum())

        return count

    def table(self) -> str:
        """Markdown, in percent of all values, with a row for all layers."""
        total: Counter[str] = sum(self.layers.values(), Counter())
        rows = [
            [name, f"{found['values'] / 1e3:.0f}", percent(found, "spikes", 1)]
            + [percent(found, rounding, 4) for rounding in ROUNDINGS]
            for name, found in [*self.layers.items(), ("all", total)]
        ]
        flips = [f"{rounding} flips, %" for rounding in ROUNDINGS]
        return markdown_table(["layer", "thousand values", "fire, %", *flips], rows)


def percent(found: Counter[str], name: str, digits: int) -> str:
    return f"{100 * found[name] / found['values']:.{digits}f}"


def get_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_shared(arch="resnet18", width=None, T=4, batch=16, size=32)
    text = "a checkpoint such as best.pt, whose network is measured as well"
    parser.add_argument("--run", type=expanded_path, metavar="FILE", help=text)
    parser.add_shared(threads=1)
    parser.add_output("also write precision.md there")
    return parser


def of_trained(path: Path, batch: int) -> list[str]:
    """Paragraphs about a trained network on the first images of its test set."""
    trained = load_trained(path, torch.device("cpu"))
    samples = [trained.data.test[i][0] for i in range(min(batch, len(trained.data.test)))]
    flips = Flips(trained.net, trained.data.to_input(default_collate(samples)))
    width = trained.arguments["width"] or "as published"
    about = f"{trained.title}, width {width}, {trained.epochs} epochs, B = {len(samples)}"
    return ["## Trained", about, flips.table()]


def main(argv: Sequence[str] | None = None) -> str:
    parser = get_parser()
    args = parser.parse_args(argv)
    parser.make_folder(args.output)
    torch.set_num_threads(args.threads)
    trained = [] if args.run is None else of_trained(args.run, args.batch)  # which may be no run
    torch.manual_seed(SEED)
    workload = workload_of(args, args.T, branches=False)
    net = build_network(Variant("exact"), workload)
    images, _ = workload.random_batch(torch.channels_last)
    paragraphs = [
        "# Spikes that flip where a layer's own convolution is rounded",
        f"    {command_line('precision', argv)}",
        machine_in_words(machine("cpu")),
        "## Untrained",
        f"{workload.in_words()}; images of noise",
        Flips(net.to(memory_format=torch.channels_last), images).table(),
        *trained,
    ]
    return parser.publish(args.output, "precision.md", paragraphs)


if __name__ == "__main__":
    run(main)
