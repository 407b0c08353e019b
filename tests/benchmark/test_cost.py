"""The cost benchmark on a tiny network: what it measures, and the claim that it is for."""

import json

import pytest
import torch

from benchmark import cost
from benchmark.contestant import Workload
from benchmark.measure import stage_peaks
from model import METHODS


def kept(method: str, T: int) -> int:
    return cost.MethodStep(method, Workload("resnet18", T, 4, True, 16, width=4)).kept_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_only_backpropagation_through_time_keeps_more_with_more_time_steps(method: str) -> None:
    few, many = kept(method, 2), kept(method, 32)
    if method.startswith("bptt"):
        assert many > 12 * few
    else:
        assert abs(many / few - 1) < 0.1


@pytest.mark.parametrize("method", ["rate", "esd"])
def test_the_backward_pass_of_rates_needs_no_more_memory_with_more_time_steps(method: str) -> None:
    few, many = (
        stage_peaks(
            cost.MethodStep(method, Workload("resnet18", T, 4, True, 16, width=4)).stages(), "cpu"
        )
        for T in (2, 32)
    )
    assert abs(many["backward"] / few["backward"] - 1) < 0.1
    assert many["forward"] > 2 * few["forward"], "all time steps of a layer at once"


def test_checkpointing_keeps_less_and_the_one_pass_less_than_a_time_step_of_bptt_each() -> None:
    assert kept("bptt_checkpointed", 8) < kept("bptt", 8) / 3
    assert kept("rate", 8) < kept("bptt", 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_moves_every_parameter(method: str) -> None:
    own = cost.MethodStep(method, Workload("resnet18", 2, 3, True, 16, width=4))
    before = [p.detach().clone() for p in own.net.parameters()]
    for _, stage in own.stages():
        stage()
    for (name, p), old in zip(own.net.named_parameters(), before, strict=True):
        assert not torch.equal(p, old), name


def test_writes_table_json_and_picture(tmp_path, capsys) -> None:
    rows = cost.main([
        "--T", "3", "1", "--methods", "rate_sparse", "sltt", "--width", "4", "--batch", "2",
        "--size", "16", "--repeats", "1", "--output", str(tmp_path / "new"),
    ])  # fmt: skip
    assert [(row.method, row.T) for row in rows] == [
        ("rate_sparse", 1), ("rate_sparse", 3), ("sltt", 1), ("sltt", 3)
    ]  # fmt: skip
    assert all(row.seconds > 0 and row.forward_peak > row.kept > 0 for row in rows)
    assert all(row.backward_peak > row.kept for row in rows)
    assert all(row.seconds > row.backward_seconds > 0 for row in rows)
    written = json.loads((tmp_path / "new" / "cost.json").read_text())
    assert written["rows"] == [row._asdict() for row in rows]
    assert (tmp_path / "new" / "cost.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "new" / "cost.png").read_bytes().startswith(b"\x89PNG")
