"""Accuracies, loss and firing rates over a whole data set, exact for any number of processes.

Shapes: B batch, K classes, N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from experiment.train.finite import FiniteCheck
from experiment.train.task import Data, Training
from model import RateModel
from model.activation import Activation
from util.misc import top_k_correct
from util.process.distributed import Group
from util.process.loader import make_loader


@torch.no_grad()
def evaluate(
    net: RateModel, training: Training, name: str, *, between: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Loss and accuracies in percent over a whole data set, each sample counted exactly once.

    name: "test" or "validation". `between` is called after a batch, equally often in all processes.
    Returns: samples, loss, top1 and top5 of the spiking network, head_top1 of every head (its own
    last), firing_rate of every spiking layer in spikes per neuron and time step.
    Raises: ValueError in all processes if samples hold NaN or infinity.
    """
    data, recipe, group = training.data, training.recipe, training.group
    dataset = getattr(data, name)
    net.eval()
    group.copy_buffers(net)  # each process has running statistics of its own share of the batches
    share = -(-recipe.val_batch_size // group.world_size)
    batches_of_all = -(-(len(dataset) // group.world_size) // share)
    sums = nothing_counted(net, group.device)
    batches = share_of_batches(
        dataset, data, group, name=name, batch_size=share, num_workers=recipe.num_workers
    )
    with closing(batches), observed_firing_rates(net) as firing_rates:
        for number, (inputs, labels) in enumerate(batches, 1):
            with autocast(group.device, recipe.amp):
                heads = net.head_logits(inputs)
            addends = evaluation_sums(torch.stack([at_least_fp32(x) for x in heads]), labels)
            for layer, rate in firing_rates.items():
                addends[layer] = rate.double() * len(labels)
            sums = {key: value + sums[key] for key, value in addends.items()}
            if number <= batches_of_all:
                between()
    return averages(group.sum_each(sums), [layer for layer, _ in net.spiking_layers()])


def share_of_batches(
    dataset: Dataset, data: Data, group: Group, *, name: str, batch_size: int, num_workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of an evaluation: (network input, labels) on its device.

    dataset: samples of `data`, of whose `name` set they are; batch_size: of this process.
    Raises: ValueError in all processes, after the last batch, for samples with NaN or infinity.
    """
    # Nothing is padded or dropped, so that counts summed over the processes are exact.
    indices = range(group.rank, len(dataset), group.world_size)
    options = {"batch_size": batch_size, "num_workers": num_workers, "device": group.device}
    samples = FiniteCheck(f"the {name} set of {data.name}", indices, group)
    with closing(make_loader(dataset, sampler=indices, **options)) as loader:
        for images, labels in loader:
            labels = torch.as_tensor(labels).to(group.device, non_blocking=True)
            inputs = data.to_input(images.to(group.device, non_blocking=True))
            samples.note(inputs)
            yield inputs, labels
    samples.refuse()


def nothing_counted(net: RateModel, device: torch.device) -> dict[str, Tensor]:
    """The sums of `evaluate` before the first batch, of which a process may have none."""
    heads = len(net.branches) + 1
    zero = torch.zeros((), dtype=torch.float64, device=device)
    labels = torch.zeros(0, dtype=torch.int64, device=device)
    counts = evaluation_sums(torch.zeros(heads, 0, 1, device=device), labels)
    return counts | {name: zero for name, _ in net.spiking_layers()}


def evaluation_sums(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What `evaluate` adds up over the batches; logits (N, B, K), labels (B,).

    Their device is neither waited for nor given anything by the host.
    """
    correct = top_k_correct(logits, labels)
    return {
        "samples": torch.full((), len(labels), device=labels.device),
        "loss": F.cross_entropy(logits[-1], labels, reduction="sum").double(),
        "top1": correct[1][-1],
        "top5": correct[5][-1],
        "head_top1": correct[1],
    }


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

    def observe(name: str, layer: nn.Module, inputs: Any, spikes: Activation) -> None:
        rates[name] = spikes.over_time().mean(dtype=torch.float32)

    with ExitStack() as hooks:
        for name, layer in net.spiking_layers():
            hooks.enter_context(layer.register_forward_hook(partial(observe, name)))
        yield rates


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """Convolutions and linear layers in bfloat16 if amp is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=amp == "bf16")


def at_least_fp32(logits: Tensor) -> Tensor:
    """Losses are computed in fp32 even where the network runs in bfloat16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
