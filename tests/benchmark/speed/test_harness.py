"""What the harness measures, and what it finds of every variant and method on a tiny network."""

from unittest import mock

import pytest
import torch

from benchmark.speed.harness import TrainingStep, in_own_process, measure_steps, step_of
from benchmark.speed.measure import Rounds, median_seconds, saved_bytes, stage_peaks, undivided
from benchmark.speed.sparsity import SpikeConvolutions
from benchmark.speed.workload import (
    METHOD_VARIANTS,
    VARIANTS,
    Variant,
    Workload,
    build_network,
    variants_for,
)
from model import METHODS, MODELS

# Compilation takes longer than a test may; the tests of the kernels have it.
WAYS = [
    variant
    for name, variant in (VARIANTS | METHOD_VARIANTS).items()  # "bptt" is the same in both
    if variant.backend != "compiled"
    and name not in ("esd", "esd_sparse")  # "one_pass" and "one_pass_sparse"
    and not (variant.graph and variant.amp != "none")  # each of the two is seen without the other
]
# Not narrower: with 4 channels oneDNN's backward of the two-stage network's 1x1 convolutions with
# stride 2 writes beyond its memory on processors without AVX-512 (torch 2.11).
FIXED = Workload("resnet18", 2, 3, size=16, width=8)


def prepared(name: str, T: int, *, branches: bool = True) -> TrainingStep:
    variant = METHOD_VARIANTS.get(name) or VARIANTS[name]
    return TrainingStep(variant, Workload("resnet18", T, 4, branches, 16, width=4))


def kept(name: str, T: int) -> int:
    return prepared(name, T, branches=False).kept_bytes()


def test_a_kept_tensor_is_counted_once_and_so_is_a_storage_that_several_share():
    weight = torch.ones(100, requires_grad=True)
    x = torch.ones(1000)

    def twice():
        return (x * weight[0] + x * weight[1]).sum()

    def views():
        return (x[:500] * weight[0] + x[500:] * weight[1]).sum()

    def copied():
        return (x * weight[0] + x.clone() * weight[1]).sum()

    one = saved_bytes(lambda: (x * weight[0]).sum(), [weight])
    assert one == 4 * 1000
    assert saved_bytes(twice, [weight]) == saved_bytes(views, [weight]) == one
    assert saved_bytes(copied, [weight]) == 2 * one


def test_parameters_are_not_kept_for_backward():
    weight = torch.ones(100, requires_grad=True)
    assert saved_bytes(lambda: (weight * weight).sum(), [weight]) == 0
    assert saved_bytes(lambda: (weight * weight).sum(), []) == 400


def test_the_peak_is_what_is_alive_at_one_time_in_each_stage():
    held = []

    def two_at_once():
        first, second = torch.empty(1000), torch.empty(500)
        del first, second
        torch.empty(100)

    stages = [
        ("first", lambda: held.append(torch.empty(1000))),
        ("second", lambda: torch.empty(500)),
        ("first", held.clear),
        ("second", lambda: held.append(torch.empty(750))),
    ]
    assert stage_peaks([("step", two_at_once)], "cpu") == {"step": 6000}
    assert stage_peaks(iter(stages), "cpu") == {"first": 4000, "second": 6000}


def test_stages_are_timed_by_name_in_turn_and_without_the_warm_up():
    """By a clock that the stages move themselves; those of one name add up."""
    now, order = [0.0], []

    def stages_of(step):
        order.append(step)
        for name, seconds in (("a", 1.0), ("b", 10.0), ("a", 2.0)):
            yield name, lambda own=seconds: now.__setitem__(0, now[0] + own * len(order))

    steps = [lambda: stages_of("x"), lambda: stages_of("y")]
    with mock.patch("benchmark.speed.measure.time.perf_counter", lambda: now[0]):
        x, y = median_seconds(steps, Rounds(3, warmup=1), "cpu")
    assert order == ["x", "y"] * 4
    assert x == {"a": 15.0, "b": 50.0, "step": 65.0}, "the 3rd, 5th and 7th"
    assert y == {"a": 18.0, "b": 60.0, "step": 78.0}
    (whole,) = median_seconds([undivided(lambda: None)], Rounds(1), "cpu")
    assert whole["step"] == whole["whole"]


@pytest.mark.parametrize("variant", WAYS, ids=lambda variant: variant.text)
def test_every_variant_and_method_takes_a_step_that_moves_every_parameter(variant):
    step = step_of(variant, FIXED)
    parameters = getattr(step, "parameters", [])
    before = [p.detach().clone() for p in parameters]
    (found,) = measure_steps([step], Rounds(1, 0), by_stage=True)
    assert all(not p.equal(b) for p, b in zip(parameters, before, strict=True))
    if variant.kind == "floor":
        assert found.kept is found.firing is None and found.peaks["convolutions"] > 0
        return
    assert max(found.peaks.values()) >= found.kept > 0
    by_rates = variant.kind == "project" and METHODS[variant.method or "esd"].by_rates
    assert (found.firing is not None) == by_rates
    stages = {"replay"} if variant.graph else {"forward", "backward", "update"}
    assert set(found.seconds) == stages | {"step"}


def test_a_graph_takes_the_same_step():
    nets = []
    for name in ("one_pass", "one_pass_graph"):
        step = TrainingStep(VARIANTS[name], FIXED)
        for _ in range(2):
            step()
        nets.append(step.net.state_dict())
    for name, value in nets[0].items():
        assert torch.equal(value, nets[1][name]), name


def test_one_pass_keeps_half_the_bytes_of_two_stages_at_any_T():
    assert kept("one_pass", 2) == kept("one_pass", 5) <= kept("two_stage", 5) / 2
    assert kept("one_pass_bf16", 2) == kept("one_pass_bf16", 5) < kept("one_pass", 2) * 0.6


@pytest.mark.parametrize("method", METHODS)
def test_only_backpropagation_through_time_keeps_more_with_more_time_steps(method):
    few, many = kept(method, 2), kept(method, 32)
    if method.startswith("bptt"):
        assert many > 12 * few
    else:
        assert abs(many / few - 1) < 0.1


def test_checkpointing_keeps_less_and_the_one_pass_less_than_a_time_step_of_bptt_each():
    assert kept("bptt_checkpointed", 8) < kept("bptt", 8) / 3
    assert kept("rate", 8) < kept("bptt", 2)


@pytest.mark.parametrize("method", ["rate", "esd"])
def test_the_backward_pass_of_rates_needs_no_more_memory_with_more_time_steps(method):
    few, many = (prepared(method, T).peaks() for T in (2, 32))
    assert abs(many["backward"] / few["backward"] - 1) < 0.1
    assert many["forward"] > 2 * few["forward"], "all time steps of a layer at once"


def test_measuring_what_is_kept_leaves_no_graph_behind():
    """Nodes of another stream that live on would spoil the recording of a CUDA graph."""
    step = TrainingStep(VARIANTS["one_pass"], FIXED)
    for name, parameter in step.net.named_parameters():
        node = torch.autograd.graph.get_gradient_edge(parameter).node
        assert "met" not in node.metadata, name
        node.metadata["met"] = True
    del node
    step.kept_bytes()
    for name, parameter in step.net.named_parameters():
        assert "met" not in torch.autograd.graph.get_gradient_edge(parameter).node.metadata, name


def test_a_process_of_its_own_has_the_threads_that_are_asked_for():
    threads = torch.get_num_threads()
    assert in_own_process(threads + 1, torch.get_num_threads) == threads + 1
    assert torch.get_num_threads() == threads


def test_variants_know_their_networks():
    for arch in MODELS:
        assert "floor" in variants_for(arch, ["two_stage", "floor"], "cpu")
    assert variants_for("resnet19", ["two_stage"], "cpu") == ["two_stage"]
    assert variants_for("resnet18", ["bptt_graph"], "cuda:1") == ["bptt_graph"]


@pytest.mark.parametrize(
    ("amp", "forward", "backward"),
    [
        ("none", None, None),
        ("bf16-backward", None, torch.bfloat16),
        ("fp16", torch.float16, torch.bfloat16),
        ("bf16", None, None),
    ],
)
def test_a_variant_has_the_precision_that_is_asked_for(amp, forward, backward):
    own = build_network(Variant("own", amp=amp), FIXED).execution
    assert (own.convolution_forward, own.convolution_backward) == (forward, backward)


def test_spikes_fire_as_often_as_asked_and_the_stem_reads_none():
    own = SpikeConvolutions(Workload("resnet18", 4, 8, False, 16, width=8), 0.25)
    assert len(own.cases) == 16 + 3
    for spikes, maps, convolution in own.cases:
        assert convolution.weight.shape[1] >= 8 and maps.equal(spikes.float())
        assert abs(float(maps.mean()) - 0.25) < 0.02
