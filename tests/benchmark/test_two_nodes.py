"""Two network namespaces as two machines."""

import shlex

import pytest

from benchmark.two_nodes import reason_to_skip, run_on_one_node, run_on_two_nodes, script


@pytest.mark.slow
def test_a_run_across_two_nodes_is_that_of_two_processes(tmp_path):
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    assert run_on_two_nodes(tmp_path / "two") == run_on_one_node(tmp_path / "one")


def test_both_nodes_meet_at_the_address_of_the_first(tmp_path):
    text = script(tmp_path)
    assert text.count("--master-addr=10.11.12.1") == 2
    assert "--node-rank=0" in text and "--node-rank=1" in text


def test_a_path_with_a_blank_stays_one_argument(tmp_path):
    lines = [line for line in script(tmp_path / "a b").splitlines() if "--log_path" in line]
    assert len(lines) == 2
    assert all(str(tmp_path / "a b") in shlex.split(line) for line in lines)
