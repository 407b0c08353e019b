"""The one training loop: `fit` calls `train_one_epoch` and `evaluate` once per epoch.

Shapes: B batch, C channels, H x W pixels, K classes, N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from experiment.progress_bar import StepBar
from experiment.recipe import Recipe
from experiment.recorder import Recorder
from experiment.stopwatch import Stopwatch
from experiment.training_state import TrainingState
from model import RateModel
from model.distillation import DistillationLoss, SelfDistillationLoss
from util.distributed import Group, share_of_batch
from util.loader import make_loader
from util.misc import top_k_correct
from util.sampler import EpochSampler, EvaluationSampler
from util.signals import StopRequest


class Data(Protocol):
    """What training needs of a data set; `util.data.ImageData` is one."""

    name: str
    train: Dataset  # keyed by (epoch, index)
    validation: Dataset | None
    test: Dataset
    class_names: tuple[str, ...]
    channels: int

    def to_input(self, batch: Tensor) -> Tensor:
        """A batch as loaded -> what the network takes, on the batch's device."""


class Stopped(Exception):
    """Training was asked to stop and has saved its state."""

    def __init__(self, request: StopRequest):
        super().__init__(f"stopped by {request.requested}")
        self.exit_code = request.exit_code


class NonFiniteError(ArithmeticError):
    """A loss or gradient that is no number; raised before the weights are touched."""


def fit(
    state: TrainingState,
    data: Data,
    recipe: Recipe,
    *,
    group: Group,
    recorder: Recorder,
    stop: StopRequest,
) -> dict[str, Any]:
    """Train from where `state` is to the last epoch; returns the last epoch's record.

    Raises: Stopped after a signal, with everything saved; NonFiniteError.
    """
    sampler = EpochSampler(
        len(data.train), seed=recipe.seed, shuffle=True, rank=group.rank,
        world_size=group.world_size,
    )  # fmt: skip
    batch_size = share_of_batch(recipe.train_batch_size, group)
    loader = make_loader(
        data.train, batch_size=batch_size, sampler=sampler, num_workers=recipe.num_workers,
        device=group.device,
    )  # fmt: skip
    loss_function = SelfDistillationLoss(recipe.alp, recipe.beta)
    record: dict[str, Any] = {}
    while state.epoch < recipe.num_epoch:
        sampler.set_epoch(state.epoch, start=min(state.batch * batch_size, sampler.shard_length))
        steps = -(-sampler.shard_length // batch_size)
        watch = Stopwatch(group)
        bar = StepBar(f"epoch {state.epoch}", steps, state.batch, show=group.is_first)

        def after_step(images: int, bar: StepBar = bar, watch: Stopwatch = watch) -> None:
            bar.advance()
            watch.count(images)
            asked_to_stop = group.any(stop.requested is not None)
            due = recipe.checkpoint_every and state.batch % recipe.checkpoint_every == 0
            if asked_to_stop or due:
                recorder.save(state, group)
            if asked_to_stop:
                bar.close()
                raise Stopped(stop)

        batches = watch.timed(loader)
        train_one_epoch(state, batches, loss_function, data.to_input, recipe.amp, group, after_step)
        bar.close()
        state.means.gather(group.sum, keep=True)
        record = {
            "epoch": state.epoch,
            "lr": state.scheduler.get_last_lr()[0],
            "train": state.means.means(),
            **evaluate_splits(state.net, data, recipe, group),
            "timing": watch.report(),
        }
        finish_epoch(state, record, recorder, group)
    return record


def finish_epoch(
    state: TrainingState, record: dict[str, Any], recorder: Recorder, group: Group
) -> None:
    """Write the epoch's record, move on to the next epoch, save the newest and the best state."""
    top1 = record.get("validation", record["test"])["top1"]
    is_best = state.best is None or top1 > state.best["top1"]
    if is_best:
        state.best = {"epoch": state.epoch, "top1": top1}
    recorder.write(record, state)
    state.next_epoch()
    recorder.save(state, group, is_best=is_best)


def train_one_epoch(
    state: TrainingState,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_function: SelfDistillationLoss,
    to_input: Callable[[Tensor], Tensor],
    amp: str,
    group: Group,
    after_step: Callable[[int], None],
) -> None:
    """One optimizer step per batch: forward, teacher and loss, backward, check, step.

    `after_step` is called with the number of images when a step is complete.
    """
    net = state.net.train()
    for images, labels in batches:
        labels = labels.to(group.device, non_blocking=True)
        with autocast(group.device, amp):
            heads = state.forward(to_input(images.to(group.device, non_blocking=True)))
        heads = [at_least_fp32(logits) for logits in heads]
        loss = loss_function(heads, labels)
        state.optimizer.zero_grad(set_to_none=True)
        (loss.total / net.T).backward()
        refuse_non_finite(loss, net, group, f"epoch {state.epoch}, step {state.batch}")
        state.optimizer.step()
        state.batch += 1
        correct = top_k_correct(torch.stack(heads).detach(), labels, ks=(1,))[1]
        state.means.update(
            {**loss._asdict(), "head_top1": 100 * correct / len(labels)}, weight=len(labels)
        )
        after_step(len(labels))


def refuse_non_finite(loss: DistillationLoss, net: RateModel, group: Group, place: str) -> None:
    """NonFiniteError in every process if a loss or a gradient of any is not finite.

    The one transfer from device to host of a step; it waits while the backward pass is running.
    """
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    norm = torch.nn.utils.get_total_norm(gradients.values())
    finite = bool(torch.isfinite(loss.total.detach() + norm))
    if not group.any(not finite):
        return
    terms = [name for name, value in loss._asdict().items() if not torch.isfinite(value)]
    terms += [f"gradient of {n}" for n, g in gradients.items() if not torch.isfinite(g).all()]
    what = f"{terms[0]} is not finite" if terms else "another process found a non-finite value"
    raise NonFiniteError(
        f"{place}: {what}; the weights of this step are untouched. Try a lower learning rate"
    )


def evaluate_splits(
    net: RateModel, data: Data, recipe: Recipe, group: Group
) -> dict[str, dict[str, Any]]:
    """`evaluate` on the test set and, where there is one, on the validation set."""
    splits = {"validation": data.validation, "test": data.test}
    return {
        name: evaluate(
            net, dataset, data.to_input, batch_size=recipe.val_batch_size, amp=recipe.amp,
            num_workers=recipe.num_workers, group=group,
        )
        for name, dataset in splits.items() if dataset is not None
    }  # fmt: skip


@torch.no_grad()
def evaluate(
    net: RateModel,
    dataset: Dataset,
    to_input: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    num_workers: int,
    amp: str,
    group: Group,
) -> dict[str, Any]:
    """Loss and accuracies in percent over a whole data set, each sample counted exactly once.

    Returns: samples, loss, top1 and top5 of the spiking network, head_top1 of every head (its own last),
    firing_rate of every spiking layer in spikes per neuron and time step.
    """
    net.eval()
    sampler = EvaluationSampler(len(dataset), rank=group.rank, world_size=group.world_size)
    loader: DataLoader = make_loader(
        dataset, batch_size=share_of_batch(batch_size, group), sampler=sampler,
        num_workers=num_workers, device=group.device,
    )  # fmt: skip
    sums: dict[str, Tensor] = {}
    with observed_firing_rates(net) as firing_rates:
        for images, labels in loader:
            labels = labels.to(group.device, non_blocking=True)
            with autocast(group.device, amp):
                heads = net.head_logits(to_input(images.to(group.device, non_blocking=True)))
            logits = at_least_fp32(torch.stack(heads))
            correct = top_k_correct(logits, labels)
            addends = {
                "samples": torch.tensor(len(labels), device=group.device),
                "loss": F.cross_entropy(logits[-1], labels, reduction="sum").double(),
                "top1": correct[1][-1],
                "top5": correct[5][-1],
                "head_top1": correct[1],
                **{name: rate.double() * len(labels) for name, rate in firing_rates.items()},
            }
            sums = {name: value + sums.get(name, 0) for name, value in addends.items()}
    return averages({name: group.sum(value) for name, value in sums.items()}, firing_rates)


def averages(sums: dict[str, Tensor], spiking_layers: Iterable[str]) -> dict[str, Any]:
    """The means of `evaluate` from its sums over all samples and processes."""
    samples = int(sums["samples"])
    return {
        "samples": samples,
        "loss": sums["loss"].item() / samples,
        "top1": 100 * sums["top1"].item() / samples,
        "top5": 100 * sums["top5"].item() / samples,
        "head_top1": [100 * count / samples for count in sums["head_top1"].tolist()],
        "firing_rate": {name: sums[name].item() / samples for name in spiking_layers},
    }


@contextmanager
def observed_firing_rates(net: RateModel) -> Iterator[dict[str, Tensor]]:
    """A dict that holds each spiking layer's mean output of the latest forward pass."""
    rates: dict[str, Tensor] = {}

    def observe(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, spikes: Tensor) -> None:
            rates[name] = spikes.mean(dtype=torch.float32)

        return hook

    handles = [m.register_forward_hook(observe(name)) for name, m in net.spiking_layers()]
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """Convolutions and linear layers in bfloat16 if amp is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=amp == "bf16")


def at_least_fp32(logits: Tensor) -> Tensor:
    """Losses are computed in fp32 even where the network runs in bfloat16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
