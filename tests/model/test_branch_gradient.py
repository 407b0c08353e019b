"""How the gradients of a branch and of the deeper network are joined: by hand, and in networks."""

import pytest
import torch
import torch.nn.functional as F

from model import BRANCH_GRADIENTS, build_model
from model.branch_gradient import add_limited, add_to_share
from model.rate_pair import Facts, RatePair

B, K, RULES = 4, 5, ("partition", "normalised")


def gradient_at(rule: str, of_branch: torch.Tensor, of_stage: torch.Tensor) -> torch.Tensor:
    """What the rate before a fork receives if its two readers send these back."""
    rate = torch.rand_like(of_branch).requires_grad_()
    pair = RatePair(rate.detach()[None].expand(3, *rate.shape).flatten(0, 1), rate, Facts(3))
    for_branch, stage = BRANCH_GRADIENTS[rule].fork(pair)
    assert for_branch.equal(rate) and stage.rate.equal(rate)
    assert for_branch.data_ptr() == stage.rate.data_ptr() == rate.data_ptr(), "nothing is copied"
    torch.autograd.backward((for_branch, stage.rate), (of_branch, of_stage))
    return rate.grad


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("channels", "share"), [(4, 2), (5, 3), (1, 1)])
def test_partition_lets_a_branch_reach_its_share_alone(channels, share):
    of_branch, of_stage = maps(B, channels, 3, 2), maps(B, channels, 3, 2, seed=1)
    g = gradient_at("partition", of_branch, of_stage)
    assert g[:, share:].equal(of_stage[:, share:])
    assert g[:, :share].equal((of_stage + of_branch)[:, :share])
    assert of_stage.equal(maps(B, channels, 3, 2, seed=1)), "what came in is left as it was"


def test_normalised_limits_each_sample_by_its_own_norms():
    of_branch, of_stage = maps(B, 3, 2, 2), maps(B, 3, 2, 2, seed=1)
    of_branch[0] *= 100  # far larger
    of_branch[1] *= 0.01  # far smaller
    of_branch[2], of_branch[3] = 0, of_stage[3].flip(0)  # nothing; as large
    g = gradient_at("normalised", of_branch, of_stage)
    for b in range(B):
        norms = [float(x[b].square().sum().sqrt()) for x in (of_branch, of_stage)]
        scale = min(1.0, norms[1] / norms[0]) if norms[0] else 1.0
        torch.testing.assert_close(g[b], of_stage[b] + scale * of_branch[b])
    assert (g[0] - of_stage[0]).norm() == pytest.approx(float(of_stage[0].norm()))
    assert g[2].equal(of_stage[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_norms_neither_overflow_nor_divide_by_nothing(dtype):
    """Norms that fp16 does not hold, and samples that send nothing back."""
    of_branch = torch.full((3, 8, 16, 16), 3000.0, dtype=dtype)
    of_stage = torch.full((3, 8, 16, 16), 1500.0, dtype=dtype)
    of_branch[1], of_stage[1], of_stage[2] = 0, 0, 0
    g = add_limited(of_branch, of_stage)
    assert g.dtype == dtype
    torch.testing.assert_close(g[0], torch.full_like(g[0], 3000.0))
    assert (g[1:] == 0).all(), "where the deeper network pulls not, nor does the branch"


def test_a_rule_keeps_the_memory_format():
    g = maps(B, 4, 3, 2).to(memory_format=torch.channels_last)
    for join in (add_to_share, add_limited):
        assert join(g, g.clone()).is_contiguous(memory_format=torch.channels_last)


def network(rule: str, arch: str = "resnet18"):
    torch.manual_seed(0)
    options = {"num_classes": K, "T": 3, "width": 4, "branch_pool": None, "thresh": 0.3}
    return build_model(arch, branch_gradient=rule, **options).double()


def logits_of(net):
    return net(maps(B, 3, 16, 16, seed=5))


def gradients(net, heads) -> dict[str, torch.Tensor]:
    """Those of a loss of these heads, by parameter; of the network's own heads."""
    loss = sum(F.cross_entropy(z, torch.arange(B)) for z in heads)
    own = {name: p for name, p in net.named_parameters() if not name.startswith("branches")}
    found = torch.autograd.grad(loss, own.values(), allow_unused=True)
    return {name: g for name, g in zip(own, found, strict=True) if g is not None}


@pytest.mark.parametrize("arch", ["resnet18", "vgg11", "preact_resnet18"])
@pytest.mark.parametrize("rule", RULES)
def test_the_values_and_the_last_head_s_gradients_are_as_without(rule, arch):
    net, plain = network(rule, arch).train(), network("joined", arch).train()
    heads, wanted = logits_of(net), logits_of(plain)
    assert all(map(torch.equal, heads, wanted))
    ours, theirs = gradients(net, heads[-1:]), gradients(plain, wanted[-1:])
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0, msg=name)
    assert all(map(torch.equal, net.buffers(), plain.buffers()))
    all_ours, all_theirs = gradients(net, logits_of(net)), gradients(plain, logits_of(plain))
    name = "stem.conv.weight"
    assert (all_ours[name] - all_theirs[name]).norm() > 1e-3 * all_theirs[name].norm()


def sent_to_the_first_stage(rule: str, *which: int) -> torch.Tensor:
    """The gradient that a loss of these heads sends to the first stage's rate (B, C, H, W)."""
    net, rates = network(rule).train(), []
    net.stages[0][-1].register_forward_hook(lambda module, x, out: rates.append(out.rate))
    heads = logits_of(net)
    loss = sum(F.cross_entropy(heads[n], torch.arange(B)) for n in which)
    return torch.autograd.grad(loss, rates)[0]


def test_a_branch_s_loss_reaches_its_share_of_the_stage_alone():
    joined, found = (sent_to_the_first_stage(rule, 0) for rule in ("joined", "partition"))
    assert found[:, :2].equal(joined[:, :2])
    assert (found[:, 2:] == 0).all() and joined[:, 2:].norm() > 0


def test_a_branch_pulls_at_most_as_hard_as_all_that_is_deeper():
    g_b = sent_to_the_first_stage("joined", 0)
    g_d = sent_to_the_first_stage("normalised", 1, 2, 3)
    g = sent_to_the_first_stage("normalised", 0, 1, 2, 3)
    ratio = g_d.flatten(1).norm(dim=1) / g_b.flatten(1).norm(dim=1)
    assert ratio.min() < 0.9, "some samples are scaled"
    torch.testing.assert_close(g, g_d + g_b * ratio.clamp(max=1).view(B, 1, 1, 1))


@pytest.mark.parametrize("rule", RULES)
def test_evaluation_knows_nothing_of_it(rule):
    net, plain = network(rule).eval(), network("joined").eval()
    x = maps(B, 3, 16, 16, seed=5)
    heads, wanted = net.head_logits(x), plain.head_logits(x)
    assert all(map(torch.equal, heads, wanted))
    ours, theirs = gradients(net, heads), gradients(plain, wanted)
    assert all(ours[name].equal(value) for name, value in theirs.items())


def test_as_published_there_is_no_fork():
    rate = torch.rand(2, 3, 4, 4, requires_grad=True)
    pair = RatePair(rate.detach(), rate, Facts(1))
    for_branch, stage = BRANCH_GRADIENTS["joined"].fork(pair)
    assert for_branch is rate and stage is pair
