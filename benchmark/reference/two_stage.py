"""Rate-based training in two literal passes: slow, small, and independent of `model/`.

This is how the published code trains (arXiv 2410.11488, 2510.06254), restated in plain torch:

1. Spike stage, without a graph: the ordinary spiking network over T*B samples. Every batch norm
   notes the statistics of its input, every neuron its firing rate and its eligibility.
2. Rate stage, with a graph: the same modules once more over the B time means. Torch's autograd
   differentiates it; batch norms and neurons put the values of the spike stage in place, and let
   the gradient through as if they had been computed from the rates.

It is the oracle of the equality tests and the baseline of `benchmark.speed.step`. Modules carry
the names of the published code, so that a state dict of it loads as it stands.

Shapes: T time steps, B batch, C channels, H height, W width, K classes, N heads.
The time layout of the spike stage is (T*B, ...), time first.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.reference.two_stage_layers import LIF, Stage, TwoStageBatchNorm

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet19": (3, 3, 2),
    "preact_resnet18": (2, 2, 2, 2),
    "preact_resnet34": (3, 4, 6, 3),
}
WIDTH = {"resnet18": 64, "resnet19": 128, "preact_resnet18": 64, "preact_resnet34": 64}
BRANCH_POOL = {"resnet18": 4, "resnet19": None, "preact_resnet18": 4, "preact_resnet34": 4}


class TwoStageBlock(nn.Module):
    """conv-bn-LIF-conv-bn, plus shortcut, then LIF."""

    def __init__(self, c_in: int, c_out: int, stride: int, neuron: Callable[[], LIF]):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = TwoStageBatchNorm(c_out)
        self.spike1 = neuron()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = TwoStageBatchNorm(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            convolution = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, TwoStageBatchNorm(c_out))
        self.spike2 = neuron()

    def forward(self, x: Tensor) -> Tensor:
        out = self.spike1(self.bn1(self.conv1(x)))
        return self.spike2(self.bn2(self.conv2(out)) + self.shortcut(x))


class TwoStagePreActBlock(nn.Module):
    """LIF-conv-bn-LIF-conv-bn, plus shortcut of the raw input; convolutions have biases."""

    def __init__(self, c_in: int, c_out: int, stride: int, neuron: Callable[[], LIF]):
        super().__init__()
        self.sn1 = neuron()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1)
        self.bn1 = TwoStageBatchNorm(c_out)
        self.sn2 = neuron()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1)
        self.bn2 = TwoStageBatchNorm(c_out)
        self.downsample = None
        if stride != 1 or c_in != c_out:
            convolution = nn.Conv2d(c_in, c_out, 1, stride)
            self.downsample = nn.Sequential(convolution, TwoStageBatchNorm(c_out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.conv1(self.sn1(x)))
        return self.bn2(self.conv2(self.sn2(out))) + shortcut


class TwoStageDeepConv(nn.Module):
    """relu(bn(1x1 conv(x)) + op(x)), op two depthwise-separable convolutions; halves the map."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.op = nn.Sequential(
            nn.Conv2d(c_in, c_in, 3, 2, 1, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_in, 1, bias=False),
            nn.BatchNorm2d(c_in),
            nn.ReLU(),
            nn.Conv2d(c_in, c_in, 3, 1, 1, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )
        self.residual = nn.Conv2d(c_in, c_out, 1, 2, bias=False)
        self.res_bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.res_bn(self.residual(x)) + self.op(x))


class TwoStageConvBlock(nn.Module):
    """relu(x + bn(conv(relu(bn(conv(x))))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + x)


def branch(widths: list[int], pool: int | None, with_standard_blocks: bool) -> nn.Sequential:
    """ANN branch from `widths[0]` channels, a TwoStageDeepConv per further stage, then pooling."""
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(widths):
        layers.append(TwoStageDeepConv(c_in, c_out))
        if with_standard_blocks:
            layers.append(TwoStageConvBlock(c_out))
    layers.append(nn.AdaptiveAvgPool2d(1) if pool is None else nn.AvgPool2d(pool))
    return nn.Sequential(*layers)


class TwoStageNet(nn.Module):
    """A network of the published code with its two-stage training step.

    `width` is the number of channels of the first stage (None: the paper's), `branch_pool` the
    pooling window of the branches (None: global), `branches=False` leaves only the last head.
    """

    def __init__(
        self,
        arch: str,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        T: int = 4,
        decay: float = 0.2,
        thresh: float = 1.0,
        v_reset: float | None = None,
        detach_reset: bool = True,
        width: int | None = None,
        branch_pool: int | Literal["default"] | None = "default",
        branches: bool = True,
    ):
        super().__init__()
        self.T = T
        self.preact = arch.startswith("preact")
        blocks = BLOCKS[arch]
        width = WIDTH[arch] if width is None else width
        pool = BRANCH_POOL[arch] if branch_pool == "default" else branch_pool
        neuron = partial(LIF, T, decay, thresh, v_reset, detach_reset)
        widths = [width * 2**i for i in range(len(blocks))]
        self.make_stem(in_channels, width, neuron)
        self.stages = [f"layer{i + 1}" for i in range(len(blocks))]
        block = TwoStagePreActBlock if self.preact else TwoStageBlock
        for i, name in enumerate(self.stages):
            c_in = widths[max(i - 1, 0)]
            layers = [block(c_in, widths[i], 1 if i == 0 else 2, neuron)]
            layers += [block(widths[i], widths[i], 1, neuron) for _ in range(1, blocks[i])]
            self.add_module(name, nn.Sequential(*layers))
        self.make_head(arch, widths[-1], num_classes, neuron)
        self.branch_count = len(blocks) - 1 if branches else 0
        for i in range(self.branch_count):
            self.add_module(f"scala{i + 1}", branch(widths[i:], pool, self.preact))
            self.add_module(f"fc{i + 1}", nn.Linear(widths[-1], num_classes))
        if self.preact:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def make_stem(self, in_channels: int, width: int, neuron: Callable[[], LIF]) -> None:
        if self.preact:
            self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3)
            self.bn1 = TwoStageBatchNorm(width)
        else:
            convolution = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
            self.conv0 = nn.Sequential(convolution, TwoStageBatchNorm(width), neuron())

    def make_head(self, arch: str, c_in: int, num_classes: int, neuron: Callable[[], LIF]) -> None:
        if self.preact:
            self.fc = nn.Linear(c_in, num_classes)
        elif arch == "resnet19":
            hidden = c_in // 2
            self.classifier = nn.Sequential(
                nn.Linear(c_in, hidden), neuron(), nn.Linear(hidden, num_classes)
            )
        else:
            self.classifier = nn.Sequential(nn.Linear(c_in, num_classes))

    def backbone(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features after every stage, and the logits of the last head, in the layout of `x`."""
        x = F.max_pool2d(self.bn1(self.conv1(x)), 3, 2, 1) if self.preact else self.conv0(x)
        features = []
        for name in self.stages:
            x = self.get_submodule(name)(x)
            features.append(x)
        pooled = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return features, (self.fc if self.preact else self.classifier)(pooled)

    def branch_logits(self, features: list[Tensor]) -> list[Tensor]:
        """Logits (B, K) of every branch on the firing rates after its stage."""
        return [
            self.get_submodule(f"fc{i + 1}")(
                self.get_submodule(f"scala{i + 1}")(features[i]).flatten(1)
            )
            for i in range(self.branch_count)
        ]

    def train_step_logits(self, x: Tensor) -> list[Tensor]:
        """Both stages of one training step.

        `x` is (B, C, H, W), a static image, or (T, B, C, H, W), frames. Returns the logits (B, K)
        of the N heads, the SNN's own last, with the graph of the rate stage. Running statistics
        move once. Module attributes hold the rates and eligibilities until the next step.
        """
        self.set_stage("spike")
        with torch.no_grad():
            self.backbone(self.over_time(x))
        self.set_stage("rate")
        features, logits = self.backbone(x if x.dim() == 4 else x.mean(0))
        return [*self.branch_logits(features), logits]

    @torch.no_grad()
    def eval_heads(self, x: Tensor) -> list[Tensor]:
        """Logits (B, K) of every head in eval mode: branches on time means, the last averaged."""
        features, logits = self.backbone(self.over_time(x))
        means = [feature.unflatten(0, (self.T, -1)).mean(0) for feature in features]
        return [*self.branch_logits(means), logits.unflatten(0, (self.T, -1)).mean(0)]

    @torch.no_grad()
    def eval_logits(self, x: Tensor) -> Tensor:
        """Logits (B, K) of the spiking network in eval mode, the mean over time."""
        return self.backbone(self.over_time(x))[1].unflatten(0, (self.T, -1)).mean(0)

    def over_time(self, x: Tensor) -> Tensor:
        """(B, C, H, W), repeated, or (T, B, C, H, W) -> (T*B, C, H, W)."""
        frames = x.expand(self.T, *x.shape) if x.dim() == 4 else x
        return frames.flatten(0, 1)

    def set_stage(self, stage: Stage) -> None:
        for module in self.modules():
            if isinstance(module, LIF | TwoStageBatchNorm):
                module.stage = stage

    def neurons(self) -> dict[str, LIF]:
        """Every neuron layer by its name in the published code."""
        return {name: m for name, m in self.named_modules() if isinstance(m, LIF)}
