"""The golden data: recorded float64 arrays, and the formula that regenerates weights and inputs.

`tests/golden/FORMULAS.md` defines everything here. Weights are not stored; every tensor is drawn
from a generator seeded by the CRC-32 of its key in the published code's state dict.

Shapes: T time steps, B batch, C channels, H height, W width, K classes, N heads.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DIRECTORY = Path(__file__).resolve().parents[1] / "golden"


@cache
def manifest() -> dict:
    """`manifest.json`, with `files` as a mapping from file name to its entry."""
    content = json.loads((DIRECTORY / "manifest.json").read_text())
    content["files"] = {entry["file"]: entry for entry in content["files"]}
    return content


def constants(file: str) -> dict:
    """Constants that the manifest lists for one file."""
    return manifest()["files"][file]["constants"]


@cache
def arrays(file: str) -> dict[str, np.ndarray]:
    """All arrays of one `.npz` file by name."""
    with np.load(DIRECTORY / file) as stored:
        return {name: stored[name] for name in stored.files}


def tensors(file: str, case: str) -> dict[str, Tensor]:
    """Arrays of one case, names without the `case/` prefix, as tensors."""
    prefix = case + "/"
    return {
        name.removeprefix(prefix): torch.from_numpy(np.array(value))
        for name, value in arrays(file).items()
        if name.startswith(prefix)
    }


def generator(key: str) -> np.random.Generator:
    """Random generator of one key."""
    return np.random.default_rng(zlib.crc32(key.encode()) + manifest()["seed"])


def normal(key: str, shape: Sequence[int]) -> Tensor:
    """Standard normal tensor of a key, float64."""
    return torch.from_numpy(np.asarray(generator(key).standard_normal(tuple(shape))))


def probe(key: str, values: Tensor) -> float:
    """Projection of `values` on the random direction that belongs to `key`."""
    return float((values.detach() * normal(key + "#probe", values.shape)).sum())


def filled_state(
    shapes: Mapping[str, Sequence[int]], gains: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """State dict under the published code's keys, filled by the formula.

    `shapes` maps each key to its shape; `gains` multiplies single weights (ResNet-19's
    classifier, which would hardly fire without it).
    """
    gains = gains or {}
    state = {}
    for key, shape in shapes.items():
        prefix, kind = key.rpartition(".")[::2]
        if kind == "num_batches_tracked":
            state[key] = torch.zeros((), dtype=torch.int64)
        elif kind in ("running_mean", "running_var"):
            state[key] = torch.full(tuple(shape), float(kind == "running_var"), dtype=torch.float64)
        elif kind == "bias":
            state[key] = 0.1 * normal(key, shape)
        elif f"{prefix}.running_mean" in shapes:
            state[key] = 1 + 0.1 * normal(key, shape)
        else:
            state[key] = normal(key, shape) * sqrt(2 / prod(shape[1:])) * gains.get(key, 1.0)
    return state


@dataclass(frozen=True)
class NetworkCase:
    """One `model_<name>.npz`: a training step and three evaluations of a full-width network."""

    name: str

    @property
    def file(self) -> str:
        return f"model_{self.name}.npz"

    @property
    def constants(self) -> dict:
        return constants(self.file)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return arrays(self.file)

    @property
    def labels(self) -> Tensor:
        """(B,) class indices."""
        return torch.from_numpy(self.arrays["labels"])

    @property
    def network_options(self) -> dict:
        """Keyword arguments that build this case's network, the same for every implementation."""
        stored = self.constants
        return {
            "num_classes": stored["classes"],
            "in_channels": stored["in_channel"],
            "T": stored["T"],
            "decay": stored["decay"],
            "thresh": stored["thresh"],
            "v_reset": stored["v_reset"],
            "detach_reset": stored["detach_reset"],
            "branch_pool": stored["branch_pool"],
        }

    def state(self) -> dict[str, Tensor]:
        """The filled weights under the published code's keys."""
        return filled_state(self.constants["state_dict"], self.constants["gains"])

    def stored_input(self) -> Tensor:
        """The input in the layout of the formula: (B, C, H, W) or, for events, (B, T, C, H, W)."""
        stored = self.constants
        image = (stored["in_channel"], stored["H"], stored["W"])
        if stored["kind"] == "static":
            return normal("input", (stored["B"], *image))
        return (2 * normal("input", (stored["B"], stored["T"], *image))).abs().floor()

    def input(self) -> Tensor:
        """The network input: (B, C, H, W), a static image, or (T, B, C, H, W), frames."""
        stored = self.stored_input()
        return stored if stored.dim() == 4 else stored.transpose(0, 1).contiguous()


def network_cases() -> list[NetworkCase]:
    """All full-network cases, in the order of the manifest."""
    files = [name for name in manifest()["files"] if name.startswith("model_")]
    return [NetworkCase(name.removeprefix("model_").removesuffix(".npz")) for name in files]
