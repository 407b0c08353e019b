"""The ways in which one training can be computed, for --tune: the flags that choose its kernels."""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product

from experiment.flag.amp import PRECISIONS
from experiment.flag.idle import on_gpu
from experiment.flag.values import in_effect, network_of, recipe_of
from experiment.train.task import Data
from experiment.train.tuning import KernelChoice

SWITCHES = ("sparse", "compile")
ON_GPU = ("fp16",)  # for a step of which a CPU takes minutes


def ways_of(args: argparse.Namespace, data: Data) -> list[KernelChoice]:
    """Those of all combinations that have an effect here, by their --amp; the first is plain."""
    found = []
    for amp, *switches in product(PRECISIONS, *[(False, True)] * len(SWITCHES)):
        chosen = dict(zip(SWITCHES, switches, strict=True)) | {"amp": amp}
        own = argparse.Namespace(**{**vars(args), **chosen, "tune": False})
        given = [name for name, value in chosen.items() if value not in (False, "none")]
        if all(in_effect(own, name) for name in given) and (on_gpu(args) or amp not in ON_GPU):
            words = " ".join(f"--{name} {amp}" if name == "amp" else f"--{name}" for name in given)
            found.append(KernelChoice(words, partial(network_of, own, data), recipe_of(own)))
    return found
