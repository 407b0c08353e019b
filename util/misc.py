"""Metrics of an epoch and the optimizer's parameter groups.

Shapes: B batch, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class WeightedMeans:
    """Running weighted means of named values, summed in float64 on the device they live on.

    Nothing is copied to the host before `means()`, so a training step never waits for it. The sums
    can be saved in the middle of an epoch and go on exactly.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def update(self, values: Mapping[str, Tensor | float], weight: float) -> None:
        """Add `values` (scalars, or tensors of a fixed shape) with one weight, e.g. the batch size.

        Raises: ValueError for a negative weight.
        """
        if weight < 0:
            raise ValueError(f"the weight of a mean must be >= 0, got {weight}")
        if weight == 0:
            return
        for name, value in values.items():
            addend = torch.as_tensor(value).detach().to(torch.float64) * weight
            if name in self._sums:
                addend = self._sums[name].to(addend.device) + addend
            self._sums[name] = addend
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def means(self) -> dict[str, Any]:
        """Each mean as a float, or as nested lists where the values had dimensions."""
        return {name: (total / self._weights[name]).tolist() for name, total in self._sums.items()}

    def gather(self, total: Callable[[Tensor], Tensor], *, keep: bool) -> None:
        """Replace sums and weights by their totals over all processes, or, without `keep`, by 0.

        So the means over all processes stay right when one process saves and resumes for all.
        `total` adds a tensor up over the processes; each of them must call this.
        """
        for name in sorted(self._sums):
            weight = torch.tensor(self._weights[name], dtype=torch.float64)
            self._sums[name] = total(self._sums[name])
            self._weights[name] = total(weight).item()
        if not keep:
            self.clear()

    def clear(self) -> None:
        """Set every sum and weight to 0; the names stay, as `gather` needs them everywhere."""
        self._sums = {name: torch.zeros_like(value) for name, value in self._sums.items()}
        self._weights = dict.fromkeys(self._weights, 0.0)

    def state_dict(self) -> dict[str, dict]:
        return {"sums": dict(self._sums), "weights": dict(self._weights)}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        self._sums = dict(state["sums"])
        self._weights = dict(state["weights"])


def top_k_correct(
    logits: Tensor, labels: Tensor, *, ks: Sequence[int] = (1, 5)
) -> dict[int, Tensor]:
    """How many samples have their label among the k largest logits.

    logits: (..., B, K); leading dimensions, such as heads, are counted separately; labels: (B,)
    class indices; a k above K counts every sample. For each k the result has an int64 tensor of
    shape (...), on the device of `logits`.

    Raises: ValueError for shapes that do not fit, or k below 1.
    """
    if logits.ndim < 2 or labels.shape != logits.shape[-2:-1]:
        raise ValueError(
            f"logits (..., B, K) and labels (B,) do not fit: got shapes {tuple(logits.shape)} "
            f"and {tuple(labels.shape)}"
        )
    if not ks or min(ks) < 1:
        raise ValueError(f"k of a top-k count must be >= 1, got {list(ks)}")
    ranking = logits.topk(min(max(ks), logits.shape[-1]), dim=-1).indices  # (..., B, k)
    hits = ranking == labels.unsqueeze(-1)
    return {k: hits[..., :k].sum(dim=(-2, -1)) for k in ks}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Optimizer groups: weight decay on weights only, none on biases and 1-D parameters.

    One-dimensional parameters are those of batch norms (and biases). Frozen parameters are left
    out. Source: the training recipe of the paper.

    Raises: ValueError for a negative weight decay, or a model without trainable parameters.
    """
    if weight_decay < 0:
        raise ValueError(f"weight decay must be >= 0, got {weight_decay}")
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_plain = parameter.ndim <= 1 or name.rpartition(".")[2] == "bias"
            (plain if is_plain else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("the model has no trainable parameters")
    return groups
