"""The step benchmark on a tiny network: what it measures, writes and refuses."""

import json
from itertools import product
from unittest import mock

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmark import gpu, step
from benchmark.contestant import VARIANTS, Contestant, Workload, contestants_for
from benchmark.floor import ConvolutionFloor
from benchmark.measure import (
    interleaved_seconds,
    peak_bytes,
    saved_bytes,
    stage_peaks,
    stage_seconds,
)
from experiment.cuda_graph import GraphedPass
from model import MODELS, build_model
from tests.support.recording import record_here

TINY = ["--width", "4", "--batch", "2", "--size", "16", "--repeats", "1", "--warmup", "1"]


def test_sweep_writes_table_json_and_picture(tmp_path, capsys):
    rows = step.main([*TINY, "--sweep", "1", "3", "--output", str(tmp_path / "new")])
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "new" / "step.json").read_text())
    assert [row["name"] for row in written["rows"]] == [row.name for row in rows]
    assert {(row.branches, row.T) for row in rows} == set(product((True, False), (1, 3)))
    assert (tmp_path / "new" / "step.md").read_text() in printed
    assert (tmp_path / "new" / "step.png").read_bytes().startswith(b"\x89PNG")
    assert "--sweep 1 3" in written["command"]


def test_one_T_is_written_too_without_the_contestants_that_lack_the_network(tmp_path, capsys):
    rows = step.main([
        *TINY, "--T", "1", "--arch", "sew_resnet18", "--branches", "without",
        "--contestants", "two_stage", "one_pass", "--output", str(tmp_path),
    ])  # fmt: skip
    assert [row.name for row in rows] == ["one_pass"]
    assert "they cannot take --arch sew_resnet18: two_stage\n" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"step.md", "step.json", "step.png"}


def test_contestants_that_all_lack_the_network_are_refused():
    for arch in MODELS:
        assert "floor" in contestants_for(arch, ["two_stage", "floor"])
    assert contestants_for("resnet19", ["two_stage"]) == ["two_stage"]
    with pytest.raises(ValueError, match="two_stage_bf16 cannot take --arch vgg11, only resnet18"):
        contestants_for("vgg11", ["two_stage_bf16"])


def kept(name: str, T: int) -> int:
    workload = Workload("resnet18", T, 8, branches=False, size=16, width=8)
    contestant = Contestant(VARIANTS[name], workload)
    return saved_bytes(contestant.forward, contestant.parameters)


def test_one_pass_keeps_half_the_bytes_of_two_stages_at_any_T():
    assert kept("one_pass", 2) == kept("one_pass", 5) <= kept("two_stage", 5) / 2
    assert kept("one_pass_bf16", 2) == kept("one_pass_bf16", 5) < kept("one_pass", 2) * 0.6
    assert kept("bptt", 5) > 2 * kept("bptt", 2)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_contestant_takes_a_step(name):
    if VARIANTS[name].backend == "compiled":
        pytest.skip("compilation takes longer than a test may; test_kernel_compiled has it")
    contestant = Contestant(VARIANTS[name], Workload("resnet18", 2, 2, True, 16, width=4))
    before = [p.detach().clone() for p in contestant.parameters]
    contestant.step()
    assert all(not p.equal(b) for p, b in zip(contestant.parameters, before, strict=True))


def floor_and_branches(branches: bool):
    workload = Workload("resnet18", 3, 2, branches, size=16, width=4)
    method = "esd" if branches else "rate"
    net = build_model("resnet18", num_classes=2, T=3, width=4, branch_pool=None, method=method)
    return ConvolutionFloor(net, workload), net.branches


def test_floor_counts_the_operations_that_it_runs():
    """T*B forward but for the stem, B backward; torch counts them by itself."""
    floor, _ = floor_and_branches(False)
    with FlopCounterMode(display=False) as counter:
        floor.step()
    assert 2 * floor.multiply_adds() == counter.get_total_flops()


def test_branches_add_their_convolutions_on_rates_to_the_floor():
    """Forward once, and twice as much backward (torch miscounts that of grouped convolutions)."""
    bare, _ = floor_and_branches(False)
    floor, branches = floor_and_branches(True)
    with FlopCounterMode(display=False) as counter:
        for i, branch in enumerate(branches):
            branch(torch.rand(2, 4 * 2**i, 16 // 2**i, 16 // 2**i))
    classifiers = len(branches) * 2 * 2 * 32 * 2
    added = 2 * (floor.multiply_adds() - bare.multiply_adds())
    assert added == 3 * (counter.get_total_flops() - classifiers)
    floor.step()


def test_peak_is_at_least_what_is_alive_at_one_time():
    def step_of_known_size():
        first = torch.empty(1000, dtype=torch.float32)
        second = torch.empty(500, dtype=torch.float32)
        del first, second
        torch.empty(100)

    assert peak_bytes(step_of_known_size, "cpu") == 6000


def test_each_stage_has_its_own_peak():
    held = []
    stages = [
        ("first", lambda: held.append(torch.empty(1000))),
        ("second", lambda: torch.empty(500)),
        ("first", held.clear),
        ("second", lambda: held.append(torch.empty(750))),
    ]
    assert stage_peaks(iter(stages), "cpu") == {"first": 4000, "second": 6000}


def test_stages_are_timed_by_name():
    """Those of one name add up; warming up does not count."""
    now, rounds = [0.0], []

    def stages():
        rounds.append(len(rounds))
        for name, seconds in (("a", 1.0), ("b", 10.0), ("a", 2.0)):
            yield name, lambda own=seconds: now.__setitem__(0, now[0] + own * (1 + rounds[-1]))

    with mock.patch("benchmark.measure.time.perf_counter", lambda: now[0]):
        seconds = stage_seconds(stages, repeats=2, warmup=1, device="cpu")
    assert seconds == [{"a": 6.0, "b": 20.0}, {"a": 9.0, "b": 30.0}]


def test_steps_are_timed_in_turn():
    order = []
    steps = [lambda: order.append("a"), lambda: order.append("b")]
    seconds = interleaved_seconds(steps, repeats=2, warmup=1, device="cpu")
    assert order == ["a", "b"] * 3
    assert [len(own) for own in seconds] == [2, 2]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--T", "0"], "expected a whole number from 1 up to 2147483647, got '0'"),
        (["--device", "tpu"], "expected cpu or cuda, got 'tpu'"),
        (["--contestants", "fastest"], "invalid choice: 'fastest'"),
    ],
)
def test_wrong_values_are_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        step.main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_gpu_benchmark_needs_a_gpu(capsys):
    with pytest.raises(SystemExit) as stop:
        gpu.main([])
    assert stop.value.code == 2
    assert "there is no GPU here that torch can use" in capsys.readouterr().err


def graphed_here(run, net, size):
    return GraphedPass(run, net, size, record_here(net, []))


def test_gpu_benchmark_checks_what_it_times(monkeypatch):
    """Its checks, run on a CPU without a graph, pass; and report a wrong kernel."""
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "GraphedPass", graphed_here)
    assert gpu.kernel_report() == "kernels: all within twice plain PyTorch's error"
    network, graph = gpu.network_report().splitlines()
    assert network.startswith("network in float64: gradients within ")
    assert graph.startswith("the same by a CUDA graph: within ")
    assert float(network.split()[5]) < 1e-9 and float(graph.split()[-1]) < 1e-9

    right = gpu.kernel.norm_lif_rate

    def wrong(*values, **named):
        fired = right(*values, **named)
        return fired._replace(rate=fired.rate + 0.01)

    monkeypatch.setattr(gpu.kernel, "norm_lif_rate", wrong)
    assert "rate" in gpu.kernel_report()
