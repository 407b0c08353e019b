"""The step benchmark on a tiny network: what it measures, writes and refuses."""

import json
from itertools import product
from unittest import mock

import pytest
import torch

from benchmark import step
from benchmark.contestant import VARIANTS, Contestant, Workload, contestants_for
from benchmark.measure import (
    interleaved_seconds,
    peak_bytes,
    saved_bytes,
    stage_peaks,
    stage_seconds,
)
from model import MODELS

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
        assert "floor" in contestants_for(arch, ["two_stage", "floor"], "cpu")
    assert contestants_for("resnet19", ["two_stage"], "cpu") == ["two_stage"]
    with pytest.raises(ValueError, match="two_stage_bf16 cannot take --arch vgg11, only resnet18"):
        contestants_for("vgg11", ["two_stage_bf16"], "cpu")


def test_graphs_are_refused_on_a_cpu():
    assert contestants_for("resnet18", ["bptt_graph"], "cuda:1") == ["bptt_graph"]
    with pytest.raises(ValueError, match="bptt_graph: a CUDA graph needs --device cuda"):
        contestants_for("resnet18", ["bptt_graph", "bptt"], "cpu")


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
