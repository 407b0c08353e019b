"""One training step of a tiny network in several processes (DistributedDataParallel over gloo)."""

from pathlib import Path

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model import RateModel, build_model


def small_network() -> RateModel:
    """ResNet-18 of 4 channels, T = 2, no branches, float64; the same weights every time."""
    torch.manual_seed(0)
    options = {"num_classes": 3, "T": 2, "width": 4, "branch_pool": None, "thresh": 0.5}
    return build_model("resnet18", method="rate", **options).double()


def shard_gradients(net: nn.Module, rank: int) -> list[Tensor]:
    """Gradients of one step on the images (B, C, H, W) that belong to a process."""
    images = torch.randn(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(3)).double()
    net(images[rank])[0].square().mean().backward()
    return [p.grad for p in net.parameters()]


def run_rank(rank: int, world_size: int, folder: str) -> None:
    """Body of one process; the first writes what all agree on to `folder`/gradients.pt."""
    torch.set_num_threads(1)
    store = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", store, rank=rank, world_size=world_size)
    gradients = shard_gradients(DistributedDataParallel(small_network()), rank)
    if rank == 0:
        torch.save(gradients, Path(folder) / "gradients.pt")
    distributed.barrier()
    distributed.destroy_process_group()
