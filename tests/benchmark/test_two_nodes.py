"""Two network namespaces as two machines."""

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
