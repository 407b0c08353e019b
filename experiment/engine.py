"""The one training loop: `fit` calls `train_one_epoch` and `evaluate` once per epoch.

Shapes: B batch, C channels, H x W pixels, K classes, N heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial, reduce
from itertools import islice
from operator import add
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from experiment.cuda_graph import GraphedPass
from experiment.evaluation import at_least_fp32, autocast, evaluate
from experiment.failure import NonFiniteError, Stopped
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
from util.sampler import EpochSampler
from util.signals import StopRequest

LossFunction = Callable[[Sequence[Tensor], Tensor], DistillationLoss]  # of heads and labels


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


def fit(
    state: TrainingState,
    data: Data,
    recipe: Recipe,
    *,
    group: Group,
    recorder: Recorder,
    stop: StopRequest,
) -> None:
    """Train from where `state` is to the last epoch.

    Raises: Stopped after a signal, with everything saved; NonFiniteError.
    """
    sampler = EpochSampler(
        len(data.train), seed=recipe.seed, shuffle=True, rank=group.rank,
        world_size=group.world_size,
    )  # fmt: skip
    part_size = share_of_batch(recipe.train_batch_size, group, parts=recipe.accum)
    batch_size = part_size * recipe.accum
    loader = make_loader(
        data.train, batch_size=part_size, sampler=sampler, num_workers=recipe.num_workers,
        device=group.device,
    )  # fmt: skip
    steps = -(-sampler.shard_length // batch_size)
    progress = torch.zeros((), dtype=torch.float64, device=group.device)
    loss_function = partial(make_loss(recipe, group), progress=progress)
    graphed = graphed_pass(state, loss_function, recipe, group)

    def leave_if_asked() -> None:
        """Save and leave if a signal came; between two steps or two batches of an evaluation."""
        exit_code = group.max(stop.exit_code)
        if exit_code:
            stop.take_over(exit_code)
            recorder.save(state, group)
            raise Stopped(stop, state.place)

    while state.epoch < recipe.num_epoch:
        sampler.set_epoch(state.epoch, start=min(state.batch * batch_size, sampler.shard_length))
        progress.fill_(state.epoch / recipe.num_epoch)
        watch = Stopwatch(group)
        bar = StepBar(f"epoch {state.epoch}", steps, state.batch, show=group.is_first)
        with closing(bar):
            for images in train_one_epoch(
                state, watch.timed(loader), loss_function, data.to_input, recipe.amp, group,
                recipe.accum, graphed,
            ):  # fmt: skip
                watch.count(images)
                bar.advance()
                leave_if_asked()
                if recipe.checkpoint_every and state.batch % recipe.checkpoint_every == 0:
                    recorder.save(state, group)
        evaluations = evaluate_splits(state.net, data, recipe, group, leave_if_asked)
        refuse_non_finite_evaluation(evaluations, state.place)
        state.means.gather(group.sum, keep=True)
        record = {
            "epoch": state.epoch,
            "lr": state.scheduler.get_last_lr()[0],
            "train": state.means.means(),
            **evaluations,
            "timing": watch.report(),
        }
        finish_epoch(state, record, recorder, group)


def make_loss(recipe: Recipe, group: Group) -> SelfDistillationLoss:
    """The loss of a recipe, averaged over all processes."""
    average = group.mean if group.world_size > 1 else None
    return SelfDistillationLoss(recipe.alp, recipe.beta, teacher=recipe.teacher, average=average)


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
    loss_function: LossFunction,
    to_input: Callable[[Tensor], Tensor],
    amp: str,
    group: Group,
    accum: int = 1,
    graphed: GraphedPass | None = None,
) -> Iterator[int]:
    """One optimizer step per `accum` batches: forward, teacher and loss, backward, check, step.

    graphed: the passes as a CUDA graph (`graphed_pass`), for accum 1.
    A generator: yields the number of images of each step when it is complete.
    """
    assert graphed is None or accum == 1
    net = state.net.train()
    run = partial(accumulate_gradients, state, loss_function=loss_function, amp=amp)
    batches = iter(batches)
    while parts := list(islice(batches, accum)):
        image_count = sum(len(labels) for _, labels in parts)
        state.optimizer.zero_grad(set_to_none=True)
        losses = []
        for number, (images, labels) in enumerate(parts, 1):
            labels = labels.to(group.device, non_blocking=True)
            inputs = to_input(images.to(group.device, non_blocking=True))
            if graphed is not None:
                loss, heads = graphed(inputs, labels)
            else:
                share, last = len(labels) / image_count, number == len(parts)
                loss, heads = run(inputs, labels, share=share, exchange=last)
            losses.append(loss)
            correct = top_k_correct(heads, labels, ks=(1,))[1]
            state.means.update(
                {**loss._asdict(), "head_top1": 100 * correct / len(labels)}, weight=len(labels)
            )
        loss = sum_of(losses)
        refuse_non_finite(loss, net, group, state.place)
        state.optimizer.step()
        state.batch += 1
        yield image_count


def graphed_pass(
    state: TrainingState, loss_function: LossFunction, recipe: Recipe, group: Group
) -> GraphedPass | None:
    """What replays forward and backward of a step, if the recipe asks for it.

    A graph holds one pass of one process, and none that runs layers again.
    """
    if not recipe.cuda_graph:
        return None
    method = state.net.method
    assert recipe.accum == 1 and group.world_size == 1 and not (method.online or method.recomputes)
    run = partial(accumulate_gradients, state, loss_function=loss_function, amp=recipe.amp)
    return GraphedPass(run, state.net, share_of_batch(recipe.train_batch_size, group))


def accumulate_gradients(
    state: TrainingState,
    inputs: Tensor,
    labels: Tensor,
    loss_function: LossFunction,
    amp: str,
    *,
    share: float = 1.0,
    exchange: bool = True,
) -> tuple[DistillationLoss, Tensor]:
    """Forward and backward over one batch, in the passes that the method asks for.

    share: weight of this batch's loss in the step; exchange: whether processes average the
    gradients at the end. Returns: the loss, detached, and the logits (N, B, K).
    """
    passes = state.net.passes
    losses, logits = [], []
    for number, arguments in enumerate(state.net.training_passes(inputs), 1):
        with gradient_exchange(state.forward, exchange and number == passes):
            with autocast(inputs.device, amp):
                heads = state.forward(*arguments)
            heads = [at_least_fp32(z) for z in heads]
            loss = loss_function(heads, labels)
            (loss.total * (share / (state.net.T * passes))).backward()
        losses.append(DistillationLoss(*(term.detach() / passes for term in loss)))
        logits.append(torch.stack(heads).detach())
    return sum_of(losses), sum(logits) / passes


def sum_of(losses: Sequence[DistillationLoss]) -> DistillationLoss:
    """Term by term."""
    return DistillationLoss(*(reduce(add, terms) for terms in zip(*losses, strict=True)))


def gradient_exchange(network: torch.nn.Module, wanted: bool) -> AbstractContextManager:
    """Whether backward passes in here end with the average of the gradients over processes."""
    split = isinstance(network, DistributedDataParallel) and not wanted
    return network.no_sync() if split else nullcontext()


def refuse_non_finite(loss: DistillationLoss, net: RateModel, group: Group, place: str) -> None:
    """NonFiniteError in every process if a loss or a gradient of any is not finite.

    The one transfer from device to host of a step; it waits while the backward pass is running.
    """
    gradients = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    norm = torch.nn.utils.get_total_norm(gradients.values())
    finite = bool(torch.isfinite(loss.total.detach() + norm))
    if not group.any(not finite):
        return
    terms = {"hard loss": loss.hard, "soft loss": loss.soft, "total loss": loss.total}
    terms |= {f"gradient of {name}": gradient for name, gradient in gradients.items()}
    terms |= {"norm of the gradient": norm}
    bad = [name for name, value in terms.items() if not torch.isfinite(value).all()]
    what = f"the {bad[0]} is not finite" if bad else "another process found a non-finite value"
    others = f" (nor are {len(bad) - 1} other terms)" if len(bad) > 1 else ""
    raise NonFiniteError(
        f"{place}: {what}{others}; the step was not taken, the weights are untouched: try a "
        "lower --lr"
    )


def refuse_non_finite_evaluation(evaluations: dict[str, dict[str, Any]], place: str) -> None:
    """NonFiniteError if an evaluation's loss is not finite."""
    for name, result in evaluations.items():
        if not math.isfinite(result["loss"]):
            raise NonFiniteError(
                f"{place}: the loss on the {name} set is {result['loss']}, the weights have "
                "diverged; the checkpoints before are untouched: try a lower --lr"
            )


def evaluate_splits(
    net: RateModel, data: Data, recipe: Recipe, group: Group, between: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """`evaluate` on the test set and, where there is one, on the validation set."""
    splits = {"validation": data.validation, "test": data.test}
    return {
        name: evaluate(
            net, dataset, data.to_input, batch_size=recipe.val_batch_size, amp=recipe.amp,
            num_workers=recipe.num_workers, group=group, between=between,
        )
        for name, dataset in splits.items() if dataset is not None
    }  # fmt: skip
