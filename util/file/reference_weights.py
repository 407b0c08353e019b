"""Names of the weights: from those of the published code to ours.

Renaming only; values are handed over as they are. The published ResNets and PreAct-ResNets name
the same parts differently, which is why there is no way back from one table.

    published                         ours
    conv0.0 / conv1                   stem.conv
    conv0.1 / bn1                     stem.norm
    layerS.J.conv1, .bn1              stages.{S-1}.J.unit1.conv, .unit1.norm      (likewise 2)
    layerS.J.shortcut.0 / .downsample.0, .1
                                      stages.{S-1}.J.shortcut.conv, .norm
    classifier.N / fc                 classifier.N / classifier.0
    scalaI.J.op.0 ... .op.6           branches.{I-1}.blocks.J.depthwise1 ... .norm2
    fcI                               branches.{I-1}.classifier
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

Value = TypeVar("Value")

LEAVES = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}

BLOCK_LAYERS = {
    "conv1": "unit1.conv",
    "bn1": "unit1.norm",
    "conv2": "unit2.conv",
    "bn2": "unit2.norm",
    "shortcut.0": "shortcut.conv",
    "shortcut.1": "shortcut.norm",
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.norm",
}

BRANCH_LAYERS = {
    "op.0": "depthwise1",
    "op.1": "pointwise1",
    "op.2": "norm1",
    "op.4": "depthwise2",
    "op.5": "pointwise2",
    "op.6": "norm2",
    "residual": "shortcut",
    "res_bn": "shortcut_norm",
    "conv1": "conv1",
    "bn1": "norm1",
    "conv2": "conv2",
    "bn2": "norm2",
}

# Patterns of the published layers' names, whose stages and branches count from 1, and our names.
RULES: dict[str, Callable[[re.Match], str]] = {
    r"conv0\.0|conv1": lambda m: "stem.conv",
    r"conv0\.1|bn1": lambda m: "stem.norm",
    r"layer([1-9])\.(\d+)\.(.+)": (lambda m: f"stages.{int(m[1]) - 1}.{m[2]}.{BLOCK_LAYERS[m[3]]}"),
    r"scala([1-9])\.(\d+)\.(.+)": (
        lambda m: f"branches.{int(m[1]) - 1}.blocks.{m[2]}.{BRANCH_LAYERS[m[3]]}"
    ),
    r"classifier\.0|fc": lambda m: "classifier.0",
    r"classifier\.2": lambda m: "classifier.2",
    r"fc([1-9])": lambda m: f"branches.{int(m[1]) - 1}.classifier",
}


def from_reference(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Rename the keys of a state dict of the published code to ours, key by key.

    Works on any mapping with such keys, whole or partial, whatever the values; a leading "module."
    (left by data-parallel training) is dropped.

    Raises: ValueError for a key that the published networks lack, or two keys for one weight.
    """
    renamed: dict[str, Value] = {}
    for key, value in state_dict.items():
        our_key = _our_name(key)
        if our_key is None:
            raise ValueError(
                f"unknown weight {key!r}; expected the keys of the published resnet18, resnet19, "
                "preact_resnet18 or preact_resnet34"
            )
        if our_key in renamed:
            raise ValueError(
                f"weight {key!r} occurs twice, under the names of two networks or with and "
                "without 'module.'; keep the keys of one network"
            )
        renamed[our_key] = value
    return renamed


def _our_name(key: str) -> str | None:
    """None when the published networks have no such key."""
    if not isinstance(key, str):
        return None
    name, _, leaf = key.removeprefix("module.").rpartition(".")
    if leaf not in LEAVES:
        return None
    for pattern, ours in RULES.items():
        if match := re.fullmatch(pattern, name):
            with suppress(KeyError):  # no such layer
                return f"{ours(match)}.{leaf}"
    return None
