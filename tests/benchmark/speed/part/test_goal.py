"""Verdicts: on either side of a bound, and of what was not measured."""

from benchmark.speed.part import goal
from benchmark.speed.part.goal import EPOCH, GOALS, OVER_PUBLISHED, all_verdicts, verdict


def test_a_goal_is_reached_from_its_own_side():
    assert verdict(OVER_PUBLISHED, 5.0, "ours")["verdict"] == goal.REACHED
    assert verdict(OVER_PUBLISHED, 4.99, "ours")["verdict"] == goal.MISSED
    assert verdict(EPOCH, 1.3, "an epoch")["verdict"] == goal.REACHED
    assert verdict(EPOCH, 1.31, "an epoch")["verdict"] == goal.MISSED
    assert verdict(EPOCH, float("nan"), "an epoch")["verdict"] == goal.MISSED


def test_every_goal_has_a_verdict_also_that_of_which_no_part_has_said_anything():
    found = [verdict(EPOCH, 2.0, "one"), verdict(EPOCH, 1.0, "other")]
    well = {"text": "well", "ok": True}
    parts = [{"part": "kernels", "findings": [well]}, {"part": "epoch", "findings": found}]
    rows = all_verdicts(parts)
    assert [row["goal"] for row in rows] == [*(own.text for own in GOALS[:-1]), *[EPOCH.text] * 2]
    assert rows[-2:] == [row | {"part": "epoch"} for row in found]
    assert {row["verdict"] for row in rows[:-2]} == {goal.UNKNOWN}
    assert {tuple(row) for row in rows} == {(*found[0], "part")}, "one table"
