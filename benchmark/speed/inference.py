"""What an answer costs on a CPU: spikes that are skipped when silent, against their rivals.

    python -m benchmark.speed.inference                   resnet18, width 64, T 4, noise, untrained
    python -m benchmark.speed.inference --run runs/RUN/best.pt     a trained network on the first
                                                          images of its test set, with early exit
    python -m benchmark.speed.inference --output docs/benchmark

Contestants have the same weights and take the same images in turn, alone and as one batch, all in
channels_last; medians of the rounds, in ms per image:

ANN             a ReLU in place of the neurons, batch norms folded; one pass, as T = 1
spikingjelly    its multi-step LIF neurons (PyTorch backend) between the same convolutions
dense           this project's evaluation (batch norms not folded) with dense convolutions
sparse          silent inputs are skipped
early exit      sparse, and an image is done at the lowest confidence that costs no accuracy on the
                first images of the test set (--judged), after T steps at the latest
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from benchmark.speed.command import Parser, command_line, run, whole_number, workload_of
from benchmark.speed.harness import in_own_process
from benchmark.speed.measure import (
    Rounds,
    machine,
    machine_in_words,
    median_seconds,
    undivided,
)
from benchmark.speed.workload import SEED, Variant, Workload, build_network
from experiment.flag.kinds import expanded_path
from experiment.trained.part.scores import THRESHOLDS
from experiment.trained.part.trained_network import load_trained
from model import RateModel
from model.inference.early_exit import answer
from model.inference.fold import fold
from model.inference.folded import Fire, FoldedNetwork, Neurons, added, observed
from model.inference.skipping import skip_silence
from util.figure import markdown_table

Answering = Callable[[Tensor, int], object]  # of images (B, C, H, W), for T time steps
ANN = "ANN"


class InferenceCase(NamedTuple):
    """A network, in eval mode; images (N, C, H, W) to be timed; confidence of the early exit, None
    where it is not trained."""

    net: RateModel
    images: Tensor
    confidence: float | None


def get_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_shared(arch="resnet18", width=None, T=4, batch=64, size=32)
    text = "a checkpoint such as best.pt; else the network is untrained, and images are noise"
    parser.add_argument("--run", type=expanded_path, metavar="FILE", help=text)
    text = "images by which the early exit's confidence is chosen (default: %(default)s)"
    parser.add_argument("--judged", type=whole_number, default=1000, metavar="COUNT", help=text)
    text = "CPU threads, each number for itself (default: 1 2)"
    parser.add_argument("--threads", type=whole_number, nargs="+", default=(1, 2), help=text)
    parser.add_shared(repeats=5)
    parser.add_output("also write inference.md there")
    return parser


@torch.no_grad()
def untrained(workload: Workload) -> tuple[InferenceCase, str]:
    """The case of a workload, and what it is in words; its running statistics are the batch's."""
    torch.manual_seed(SEED)
    net = build_network(Variant("untrained"), workload)
    images, _ = workload.random_batch(torch.channels_last)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 1.0
    net.train()(images)
    about = f"{workload.in_words()}, untrained, images of noise"
    return InferenceCase(net.eval(), images, None), about


def trained(path: Path, batch: int, judged: int) -> tuple[InferenceCase, str]:
    """The case of a checkpoint, and what it is in words."""
    found = load_trained(path, torch.device("cpu"))
    if found.description.kind != "images":
        raise ValueError(f"{path} was trained on {found.description.kind}, expected images")
    tests = found.data.test

    def first(count: int) -> tuple[Tensor, Tensor]:
        samples, labels = zip(*(tests[i] for i in range(min(count, len(tests)))), strict=True)
        return found.data.to_input(default_collate(samples)), torch.tensor(labels)

    judges, labels = first(judged)
    confidence, right, steps = cheapest_exit(skip_silence(fold(found.net)), judges, labels)
    width = found.arguments["width"] or "as published"
    about = (
        f"{found.title}, width {width}, {found.epochs} epochs; of the first {len(labels)} test "
        f"images {right:.2f} % right after all steps, and no fewer by exits above {confidence:g}, "
        f"after {steps:.2f} steps on average"
    )
    return InferenceCase(found.net, first(batch)[0], confidence), about


def cheapest_exit(net: FoldedNetwork, x: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """The lowest threshold that costs no accuracy, that accuracy (%), and the mean steps."""

    def judge(confidence: float) -> tuple[float, float]:
        parts = [answer(net, part, confidence=confidence) for part in x.split(128)]
        logits = torch.cat([part.logits for part in parts])
        steps = torch.cat([part.steps for part in parts])
        right = (logits.argmax(1) == labels).double().mean().item()
        return 100 * right, steps.double().mean().item()

    wanted, _ = judge(1.0)
    for confidence in THRESHOLDS:
        right, steps = judge(confidence)
        if right >= wanted:
            return confidence, wanted, steps
    return 1.0, wanted, float(net.T)


def contestants(case: InferenceCase) -> dict[str, Answering]:
    """By name, in the order of the table."""
    net = case.net.to(memory_format=torch.channels_last)
    plain, skipping = fold(net).to(memory_format=torch.channels_last), skip_silence(fold(net))
    theirs = spikingjelly_neurons(plain)
    found: dict[str, Answering] = {
        ANN: lambda x, T: plain(x, relu, T=T),
        "spikingjelly": lambda x, T: plain(x, theirs, T=T),
        "dense": lambda x, T: net.time_logits(x, T=T),
        "sparse": lambda x, T: skipping(x, T=T),
    }
    if case.confidence is not None:
        found["early exit"] = lambda x, T: answer(skipping, x, confidence=case.confidence, T=T)
    return found


def spikingjelly_neurons(net: FoldedNetwork) -> Fire:
    """The same neurons as spikingjelly computes them."""
    from spikingjelly.activation_based import functional, neuron

    def node(own: Neurons) -> neuron.LIFNode:
        decay, threshold, v_reset, _ = own.neuron
        options = {"v_threshold": threshold, "v_reset": v_reset, "step_mode": "m"}
        return neuron.LIFNode(1 / (1 - decay), decay_input=False, **options)

    nodes = {own.label: node(own) for own in net.neurons()}

    def fire(own: Neurons, current: Tensor, residual: Tensor | None) -> Tensor:
        functional.reset_net(nodes[own.label])
        return nodes[own.label](added(current, residual))

    return fire


def relu(own: Neurons, current: Tensor, residual: Tensor | None) -> Tensor:
    """An ANN's neurons."""
    return added(current, residual).relu()


@torch.no_grad()
def milliseconds(case: InferenceCase, batch: int, rounds: Rounds) -> dict[tuple[str, int], float]:
    """Per image, by contestant and T, on batches of this size."""
    batches = case.images.contiguous(memory_format=torch.channels_last).split(batch)

    def over_all(run: Answering, T: int) -> Callable[[], None]:
        return lambda: [run(x, T) for x in batches]

    runs = {
        (name, T): over_all(run, T)
        for name, run in contestants(case).items()
        for T in range(1, 2 if name == ANN else case.net.T + 1)
    }
    seconds = median_seconds([undivided(run) for run in runs.values()], rounds, "cpu")
    images = len(case.images)
    return {key: 1e3 * own["step"] / images for key, own in zip(runs, seconds, strict=True)}


@torch.no_grad()
def firing_rate(case: InferenceCase) -> float:
    """Spikes per neuron and time step, of all spiking layers."""
    spikes, neurons = 0.0, 0

    def see(own: Neurons, current: Tensor, train: Tensor) -> None:
        nonlocal spikes, neurons
        spikes, neurons = spikes + float(train.sum()), neurons + train.numel()

    fold(case.net)(case.images, observed(see))
    return spikes / neurons


def times_table(found: dict[tuple[str, int], float]) -> str:
    """Markdown: ms per image, and times the ANN's."""
    ann, steps = found[ANN, 1], sorted({T for _, T in found})
    cells = {key: f"{ms:.2f} ({ms / ann:.2f})" for key, ms in found.items()}
    rows = [
        [name, *(cells.get((name, T), "") for T in steps)]
        for name in dict.fromkeys(name for name, _ in found)
    ]
    return markdown_table(["ms per image (times the ANN's)", *(f"T = {T}" for T in steps)], rows)


def main(argv: Sequence[str] | None = None) -> str:
    parser = get_parser()
    args = parser.parse_args(argv)
    parser.make_folder(args.output)
    torch.set_num_threads(1)
    if args.run is None:
        case, about = untrained(workload_of(args, args.T, branches=False))
    else:
        case, about = trained(args.run, args.batch, args.judged)
    paragraphs = [
        "# Inference on a CPU",
        f"    {command_line('inference', argv)}",
        machine_in_words(machine("cpu")),
        f"{about}; a neuron fires in {100 * firing_rate(case):.1f} % of the time steps",
    ]
    for threads in args.threads:
        for batch in (1, args.batch):
            rounds = Rounds(args.repeats)
            found = in_own_process(threads, milliseconds, case, batch, rounds)
            paragraphs += [f"## Batches of {batch}, {threads} threads", times_table(found)]
    return parser.publish(args.output, "inference.md", paragraphs)


if __name__ == "__main__":
    run(main)
