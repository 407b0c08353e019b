"""The ways in which one training can be computed, for --tune: the flags that choose its kernels."""

from __future__ import annotations

import argparse
from functools import partial

from experiment.flag.idle import on_gpu
from experiment.flag.values import in_effect, network_of, recipe_of
from experiment.train.task import Data
from experiment.train.tuning import KernelChoice

PLAIN = {"sparse": False, "compile": False, "amp": "none"}
WAYS = (
    {},
    {"sparse": True},
    {"compile": True},
    {"sparse": True, "compile": True},
    {"amp": "bf16-backward"},
    {"amp": "bf16-backward", "sparse": True},
    {"amp": "bf16"},
)
ON_GPU = ({"amp": "fp16"},)  # a CPU takes minutes for a step


def ways_of(args: argparse.Namespace, data: Data) -> list[KernelChoice]:
    """The plain way of the training that the flags describe, then all others that differ here."""
    ways = []
    for chosen in (*WAYS, *(ON_GPU if on_gpu(args) else ())):
        own = argparse.Namespace(**{**vars(args), **PLAIN, **chosen, "tune": False})
        if all(in_effect(own, name) for name in chosen):
            words = " ".join(
                f"--{name}" if value is True else f"--{name} {value}"
                for name, value in chosen.items()
            )
            network = partial(network_of, own, data)
            ways.append(KernelChoice(words, own.amp == "none", network, recipe_of(own)))
    return ways
