"""The architectures of the field as spikingjelly has them, against ours with the same weights.

SEW- and MS-ResNets are spikingjelly's own models; it has no VGG with the same tables, so those are
written on its layers. Trained through time they are an oracle for `bptt`. With their neurons and
batch norms replaced by those of `two_stage_layers` they are one for rate-based training: its two
stages run over structures that this project did not write.

Shapes: T time steps, B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Callable
from functools import partial

import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model.ms_resnet import MSResNet
from spikingjelly.activation_based.model.sew_resnet import SEWResNet, sew_resnet18, sew_resnet34
from torch import Tensor, nn

from benchmark.reference.two_stage_layers import LIF, TwoStageBatchNorm
from model import RateModel, build_model
from tests.support.spiking_network import SpikingResNet18, constants_of

T, CLASSES = 3, 5
NEURON = {"decay": 0.3, "thresh": 0.8, "v_reset": None, "detach_reset": True}
LAYERS = ("layer1", "layer2", "layer3", "layer4")


class SmallMSResNet(MSResNet):
    """For small images: 3x3 stem, stride 1 in it and in the first stage."""

    _first_stage_stride = 1


class VGG(nn.Module):
    """64 128 | 256 256 | 512 512 | 512 512 for width 64, then `pool` and a classifier."""

    def __init__(self, width: int, pool: nn.Module, pixels: int, fire: Callable):
        super().__init__()
        stages, c_in = ((1, 2), (4, 4), (8, 8), (8, 8)), 3
        for i, (name, stage) in enumerate(zip(LAYERS, stages, strict=True)):
            layers = [layer.AvgPool2d(2)] if i else []
            for multiple in stage:
                c_out = width * multiple
                convolution = layer.Conv2d(c_in, c_out, 3, padding=1, bias=False)
                layers += [convolution, layer.BatchNorm2d(c_out), fire()]
                c_in = c_out
            self.add_module(name, nn.Sequential(*layers))
        self.pool, self.fc = pool, layer.Linear(c_in * pixels, CLASSES)


def spikingjelly_network(arch: str, *, width: int, small: bool, neurons: dict) -> nn.Module:
    """Random weights of their initialisation; SEW-ResNets have width 64, images three channels."""
    if arch == "resnet18":
        return SpikingResNet18(num_classes=CLASSES, in_channels=3, width=width, **neurons)
    constants = constants_of(**neurons)
    if arch.startswith("sew"):
        make = {"sew_resnet18": sew_resnet18, "sew_resnet34": sew_resnet34}[arch]
        net = make(cnf="ADD", spiking_neuron=neuron.LIFNode, num_classes=CLASSES, **constants)
        if small:
            net.conv1 = layer.Conv2d(3, 64, 3, padding=1, bias=False)
            net.maxpool = nn.Identity()
        return net
    if arch.startswith("ms"):
        depths = {"ms_resnet18": (2, 2, 2, 2), "ms_resnet34": (3, 4, 6, 3)}[arch]
        make = partial(SmallMSResNet, stem_kernel_size=3, stem_stride=1) if small else MSResNet
        constants |= {"base_channels": width, "spiking_neuron": neuron.LIFNode}
        return make(T, 3, CLASSES, depths, **constants)
    pools = {"vgg11": (layer.AdaptiveAvgPool2d(1), 1), "vggsnn": (layer.AvgPool2d(2), 9)}
    return VGG(width, *pools[arch], partial(neuron.LIFNode, **constants))


def stage_outputs(net: nn.Module, x: Tensor) -> list[Tensor]:
    """What each of the four stages hands on."""
    if isinstance(net, SEWResNet):
        x = net.maxpool(net.sn1(net.bn1(net.conv1(x))))
    elif isinstance(net, MSResNet):
        x = net.stem(x)
    elif isinstance(net, SpikingResNet18):
        x = net.conv0(x)
    outputs = []
    for name in LAYERS:
        x = net.get_submodule(name)(x)
        outputs.append(x)
    return outputs


def last_logits(net: nn.Module, x: Tensor) -> Tensor:
    """Logits of the last stage's output; leading dimensions as they are."""
    if isinstance(net, MSResNet):
        return net.head(net.avgpool(net.head_lif(x)).flatten(-3))
    if isinstance(net, SpikingResNet18):
        return net.classifier(net.pool(x).flatten(-3))
    return net.fc((net.avgpool if isinstance(net, SEWResNet) else net.pool)(x).flatten(-3))


def both_networks(
    arch: str, method: str, *, T: int = T, stem: str = "published", width: int = 4, **neurons
) -> tuple[RateModel, nn.Module]:
    """Ours and spikingjelly's with the same random weights, in float64."""
    torch.manual_seed(7)
    neurons = NEURON | neurons
    small = stem == "small"
    theirs = spikingjelly_network(arch, width=width, small=small, neurons=neurons).double()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(0.2 * torch.randn_like(parameter) + name.endswith("weight"))
    sizes = {"num_classes": CLASSES, "T": T, "width": width, "stem": stem, "branch_pool": None}
    ours = build_model(arch, method=method, **sizes, **neurons).double()
    own = {k: v for k, v in ours.state_dict().items() if not k.startswith("branches")}
    state = dict(zip(own, theirs.state_dict().values(), strict=True))  # both in forward order
    missing, _ = ours.load_state_dict(state, strict=False)
    assert all(name.startswith("branches") for name in missing)
    return ours, theirs


def assert_equal_through_time(arch: str, x: Tensor, *, T: int = T, **options) -> None:
    """One training step of `bptt` and inference: logits, gradients, running statistics."""
    ours, theirs = both_networks(arch, "bptt", T=T, **options)
    functional.set_step_mode(theirs, "m")
    shown = x if x.dim() == 5 else x.expand(T, *x.shape)
    (logits,) = ours(x)
    wanted = last_logits(theirs, stage_outputs(theirs, shown)[-1]).mean(0)
    logits.square().sum().backward()
    wanted.square().sum().backward()
    _assert_close(logits, wanted)
    _assert_same_parameters(ours, theirs)
    functional.reset_net(theirs)
    with torch.no_grad():
        wanted = last_logits(theirs.eval(), stage_outputs(theirs, shown)[-1])
        assert wanted.abs().max() > 0
        _assert_close(ours.eval().time_logits(x), wanted)


def assert_equal_by_rates(arch: str, x: Tensor, **options) -> None:
    """One training step of `esd` against two stages, with our branches on their stages' rates."""
    ours, theirs = both_networks(arch, "esd", **options)
    functional.set_step_mode(theirs, "s")
    _replace_by_two_stage_layers(theirs)
    heads = ours(x)
    with torch.no_grad():
        shown = x if x.dim() == 5 else x.expand(T, *x.shape)
        last_logits(theirs, stage_outputs(theirs, shown.flatten(0, 1))[-1])
    for module in theirs.modules():
        if isinstance(module, LIF):
            assert 0 < module.firing_rate.mean() < 1
        if isinstance(module, LIF | TwoStageBatchNorm):
            module.stage = "rate"
    features = stage_outputs(theirs, x if x.dim() == 4 else x.mean(0))
    wanted = [branch(z) for branch, z in zip(ours.branches, features, strict=False)]
    wanted.append(last_logits(theirs, features[-1]))
    assert len(heads) == len(wanted) == 4
    for head, other in zip(heads, wanted, strict=True):
        _assert_close(head, other)
    branch_parameters = list(ours.branches.parameters())
    sum(head.square().sum() for head in heads).backward()
    found = [p.grad for p in branch_parameters]
    for parameter in branch_parameters:
        parameter.grad = None
    sum(other.square().sum() for other in wanted).backward()
    for gradient, parameter in zip(found, branch_parameters, strict=True):
        _assert_close(gradient, parameter.grad)
    _assert_same_parameters(ours, theirs)


def _replace_by_two_stage_layers(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, neuron.LIFNode):
            setattr(module, name, LIF(T, *NEURON.values()))
        elif isinstance(child, nn.BatchNorm2d):
            norm = TwoStageBatchNorm(child.num_features).to(child.weight)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            _replace_by_two_stage_layers(child)


def _assert_same_parameters(ours: RateModel, theirs: nn.Module) -> None:
    """Gradients and buffers, except those of our branches."""
    own = [(n, p) for n, p in ours.named_parameters() if not n.startswith("branches")]
    for (name, parameter), other in zip(own, theirs.parameters(), strict=True):
        assert parameter.grad.norm() > 0, name
        _assert_close(parameter.grad, other.grad, name)
    buffers = [(n, b) for n, b in ours.named_buffers() if not n.startswith("branches")]
    for (name, buffer), other in zip(buffers, theirs.buffers(), strict=True):
        _assert_close(buffer, other, name)


def _assert_close(actual: Tensor, expected: Tensor, name: str = "") -> None:
    scale = max(float(expected.detach().abs().max()), 1e-6)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9 * scale, msg=lambda m: name + m)
