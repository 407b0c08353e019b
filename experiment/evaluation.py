"""Accuracies, loss and firing rates over a whole data set, exact for any number of processes.

Shapes: B batch, K classes, N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from experiment.finite import FiniteCheck
from model import RateModel
from model.activation import Activation
from util.distributed import Group
from util.loader import make_loader
from util.misc import top_k_correct
from util.sampler import EvaluationSampler


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
    between: Callable[[], None] = lambda: None,
    name: str = "the data set",
) -> dict[str, Any]:
    """Loss and accuracies in percent over a whole data set, each sample counted exactly once.

    `between` is called after a batch, equally often in all processes.
    Returns: samples, loss, top1 and top5 of the spiking network, head_top1 of every head (its own
    last), firing_rate of every spiking layer in spikes per neuron and time step.
    Raises: ValueError in all processes if samples of `name` hold NaN or infinity.
    """
    net.eval()
    group.copy_buffers(net)  # each process has running statistics of its own share of the batches
    share = -(-batch_size // group.world_size)
    sampler = EvaluationSampler(len(dataset), rank=group.rank, world_size=group.world_size)
    loader = make_loader(
        dataset, batch_size=share, sampler=sampler, num_workers=num_workers, device=group.device
    )
    batches_of_all = -(-(len(dataset) // group.world_size) // share)
    sums = nothing_counted(net, group.device)
    samples = FiniteCheck(name, sampler.indices, group)
    with closing(loader), observed_firing_rates(net) as firing_rates:
        for number, (images, labels) in enumerate(loader, 1):
            labels = labels.to(group.device, non_blocking=True)
            inputs = to_input(images.to(group.device, non_blocking=True))
            samples.note(inputs)
            with autocast(group.device, amp):
                heads = net.head_logits(inputs)
            addends = evaluation_sums(torch.stack([at_least_fp32(x) for x in heads]), labels)
            for name, rate in firing_rates.items():
                addends[name] = rate.double() * len(labels)
            sums = {name: value + sums[name] for name, value in addends.items()}
            if number <= batches_of_all:
                between()
    samples.refuse()
    return averages(group.sum_each(sums), [name for name, _ in net.spiking_layers()])


def nothing_counted(net: RateModel, device: torch.device) -> dict[str, Tensor]:
    """The sums of `evaluate` before the first batch, of which a process may have none."""
    heads = len(net.branches) + 1
    zero = torch.zeros((), dtype=torch.float64, device=device)
    labels = torch.zeros(0, dtype=torch.int64, device=device)
    counts = evaluation_sums(torch.zeros(heads, 0, 1, device=device), labels)
    return counts | {name: zero for name, _ in net.spiking_layers()}


def evaluation_sums(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What `evaluate` adds up over the batches; logits (N, B, K), labels (B,)."""
    correct = top_k_correct(logits, labels)
    return {
        "samples": torch.tensor(len(labels), device=labels.device),
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

    def observe(name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, inputs: Any, spikes: Activation) -> None:
            rates[name] = spikes.over_time().mean(dtype=torch.float32)

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
