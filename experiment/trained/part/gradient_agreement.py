"""How far rate-based gradients point where backpropagation through time points.

Rate-based training replaces the gradient through T time steps (BPTT) by one backward pass at the
firing rates. Here both are computed for the same weights on the same batch, of the cross-entropy
of the spiking network's own head, and compared per layer:

    cosine = <g_rate, g_bptt> / (|g_rate| |g_bptt|)

1: the same direction; two unrelated directions of n weights: 0 +- 1/sqrt(n).
Source: arXiv 2410.11488 derives the rate gradient as an approximation of BPTT.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from experiment.trained.part.exported import describe_network
from experiment.trained.part.trained_network import Trained
from model import RateModel, build_model


def gradient_agreement(trained: Trained, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Cosine per layer with weights, in forward order, and under "all" that of all weights.

    x (B, C, H, W) or (T, B, C, H, W), labels (B,). The trained network itself is not touched.
    """
    rate, bptt = (gradients(copy_of(trained, method), x, labels) for method in ("rate", "bptt"))
    result = {
        name.removesuffix(".weight").removesuffix(".conv"): cosine(rate[name], bptt[name])
        for name in rate
        if rate[name].dim() > 1
    }
    flat = [torch.cat([g.flatten() for g in gradient.values()]) for gradient in (rate, bptt)]
    return {**result, "all": cosine(*flat)}


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two tensors as vectors; 0 if one of them is zero."""
    return F.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0).item()


def copy_of(trained: Trained, method: str) -> RateModel:
    """A network with the trained weights, without branches, that trains by `method`.

    Rate gradients have the whole derivative of a hard reset, so BPTT must not detach it either.
    """
    network = describe_network(trained.arguments, trained.description)["network"]
    detach = network["v_reset"] is None and trained.arguments["detach_reset"]
    net = build_model(**network, method=method, detach_reset=detach)
    weights = trained.net.state_dict()
    net.load_state_dict({name: weights[name] for name in net.state_dict()})
    return net.to(next(trained.net.parameters()).device)


def gradients(net: RateModel, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter for one batch, batch norms normalising by the batch."""
    net.train()
    (logits,) = net(x)
    loss = F.cross_entropy(logits, labels)
    names, parameters = zip(*net.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
