"""One training step, ready to be measured: its stages, its time, and the bytes that it holds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from benchmark.reference.recording import recording_on
from benchmark.speed.floor import ConvolutionFloor
from benchmark.speed.measure import (
    Rounds,
    Stage,
    median_seconds,
    saved_bytes,
    stage_peaks,
    undivided,
)
from benchmark.speed.workload import DTYPES, SEED, Variant, Workload, build_network
from experiment.train.evaluation import at_least_fp32, autocast
from experiment.train.graph import GraphedPass, nothing_moved
from experiment.train.update import Update
from model import RateModel
from model.activation import Activation
from model.distillation import DistillationLoss, SelfDistillationLoss
from model.rate_pair import RatePair
from util.process.distributed import Group

ALP, BETA = 1.0, 0.3  # of the CIFAR recipe; they do not change the cost
LEARNING_RATE = 1e-3  # small, so that firing rates stay what they are over the repeated steps

Result = TypeVar("Result")


class TrainingStep:
    """Forward, loss, backward and SGD on one random batch, in as many passes as the method takes.

    net, parameters, update, images (B, C, size, size), labels (B,): what it works on. Every method
    ends its step as the mains do, with the check of all gradients and fused SGD.
    graph: what replays the whole step, if the variant asks for it.
    """

    def __init__(self, variant: Variant, workload: Workload):
        self.variant, self.workload = variant, workload
        torch.manual_seed(SEED)
        net = build_network(variant, workload)
        self.net = net.to(workload.device, memory_format=variant.layout).train()
        self.parameters = list(net.parameters())
        optimizer = torch.optim.SGD(self.parameters, LEARNING_RATE, momentum=0.9)
        group = Group(0, 1, torch.device(workload.device))
        self.update = Update(net, optimizer, group, runs_ahead=True)
        self.images, self.labels = workload.random_batch(variant.layout)
        self.loss_function = SelfDistillationLoss(ALP, BETA)
        self.graph: GraphedPass | None = None
        if variant.graph:
            record = recording_on(workload.device)
            unchanged = partial(nothing_moved, net, self.update)
            self.graph = GraphedPass(self._take, workload.batch, unchanged=unchanged, record=record)

    def __call__(self) -> None:
        for _, run in self.stages():
            run()

    def stages(self) -> Iterator[Stage]:
        """ "forward" and "backward" of each pass in turn, then "update"; as a graph "replay"."""
        if self.graph is not None:
            yield "replay", lambda: self.graph(self.images, self.labels)
            return
        self.net.zero_grad(set_to_none=True)
        loss: list[DistillationLoss] = []
        for x in self.passes():
            yield "forward", lambda own=x: loss.append(self.loss(own, self.labels))
            yield "backward", lambda: self.backward(loss[-1])
        yield "update", lambda: self.update(loss.pop().detached())

    def passes(self) -> Iterable[Tensor | Activation]:
        """What the network is given in a step, in turn: the batch, or online its time steps."""
        own_pass = self.net.method.own_pass if isinstance(self.net, RateModel) else None
        return [self.images] if own_pass is None else own_pass.steps(self.net, self.images)

    def loss(self, x: Tensor | Activation, labels: Tensor) -> DistillationLoss:
        """That of one pass over T, with its graph."""
        run = self.net if isinstance(self.net, RateModel) else self.net.train_step_logits
        with autocast(labels.device, self.variant.amp):
            heads = run(x)
        return self.loss_function([at_least_fp32(logits) for logits in heads], labels)

    def backward(self, loss: DistillationLoss) -> None:
        """Of L/T, of which a pass is a part."""
        online = isinstance(self.net, RateModel) and self.net.method.online
        T = self.workload.T
        (loss.total / (T * T if online else T)).backward()

    def _take(self, images: Tensor, labels: Tensor) -> None:
        self.net.zero_grad(set_to_none=True)
        loss = self.loss(images, labels)
        self.backward(loss)
        self.update(loss.detached())

    def kept_bytes(self) -> int:
        """Kept for backward when a forward pass ends, the largest of the passes of a step, and the
        neurons' memory between them."""
        largest, memory = 0, {}
        for x in self.passes():
            kept = saved_bytes(lambda own=x: self.loss(own, self.labels), self.parameters)
            largest = max(largest, kept)
            memory = getattr(x, "memory", {})
        return largest + sum(t.nbytes for past in memory.values() for t in past if t is not None)

    def peaks(self) -> dict[str, int]:
        """The most bytes held in each stage, beyond those held between steps."""
        self.net.zero_grad(set_to_none=True)  # else the step would free gradients first
        return stage_peaks(self.stages(), self.workload.device)

    def firing_rate(self) -> float | None:
        """Spikes per neuron and time step, the mean of all neurons; of our own step alone."""
        if not isinstance(self.net, RateModel) or not self.net.method.by_rates:
            return None
        spikes, neurons = 0.0, 0

        def count(module: nn.Module, inputs: tuple, out: RatePair) -> None:
            nonlocal spikes, neurons
            spikes, neurons = spikes + float(out.rate.detach().sum()), neurons + out.rate.numel()

        handles = [m.register_forward_hook(count) for _, m in self.net.spiking_layers()]
        self.loss(self.images, self.labels)
        for handle in handles:
            handle.remove()
        return spikes / neurons


Step = TrainingStep | ConvolutionFloor


def step_of(variant: Variant, workload: Workload) -> Step:
    """A step that is taken when it is called."""
    if variant.kind == "floor":
        net = build_network(Variant(""), workload)
        return ConvolutionFloor(net, workload, DTYPES[variant.amp])
    return TrainingStep(variant, workload)


class Measured(NamedTuple):
    """What a step costs.

    seconds: medians, of the whole as "step" and of each stage that was timed apart.
    kept: bytes kept for backward; None for the floor, which has no backward pass of its own.
    peaks: the most bytes held in each stage beyond those held between steps.
    firing: spikes per neuron and time step; None where they are not our own.
    """

    seconds: dict[str, float]
    kept: int | None
    peaks: dict[str, int]
    firing: float | None


def measure_steps(
    steps: Sequence[Step], rounds: Rounds, *, by_stage: bool = False
) -> list[Measured]:
    """Time and memory of steps of one workload, timed in turn.

    by_stage: whether stages are timed apart; a GPU is then waited for between them.
    """
    timed = [step.stages if by_stage else undivided(step) for step in steps]
    seconds = median_seconds(timed, rounds, steps[0].workload.device)
    return [
        Measured(own, step.kept_bytes(), step.peaks(), step.firing_rate())
        for step, own in zip(steps, seconds, strict=True)
    ]


def in_own_process(threads: int, function: Callable[..., Result], *arguments: object) -> Result:
    """What a function returns in a new process, so that nothing it allocates is left to others."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (threads,)) as pool:
        return pool.submit(function, *arguments).result()
