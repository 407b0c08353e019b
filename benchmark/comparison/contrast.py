"""How the contrasts of a plan came out: tests of pairs by seed, and how the report puts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmark.comparison.metric import Metric, metric_named
from benchmark.comparison.question import Question
from benchmark.comparison.statistic import holm, paired_test, smallest_wilcoxon
from benchmark.comparison.summary import Entry
from util.figure import markdown_table

Verdict = dict[str, Any]  # of one metric and contrast, as results.json has it

LEVEL = 0.05  # of significance, which too few pairs cannot reach
COLUMNS = ("difference", "95 %", "pairs", "t p", "t p, Holm", "Wilcoxon p", "Wilcoxon p, Holm")


def judge(question: Question | None, entries: Sequence[Entry], planned: int) -> list[Verdict]:
    """Every test that the question asks for, the primary one first; planned: seeds of the plan.

    The others have Holm's correction over all of them, apart for each of the two tests.
    """
    if question is None:
        return []
    runs = {entry["name"]: entry["runs"] for entry in entries}
    verdicts = []
    for metric, (first, second) in question.tests():
        pairs = _pairs(runs[first], runs[second], metric)
        test = paired_test([a for a, _ in pairs.values()], [b for _, b in pairs.values()])
        about = {"metric": metric.name, "contrast": [first, second], "seeds": list(pairs)}
        verdicts.append({**about, "planned": planned, **test._asdict()})
    for key in ("t_p", "wilcoxon_p"):
        corrected = holm([verdict[key] for verdict in verdicts[1:]])
        for verdict, p in zip(verdicts[1:], corrected, strict=True):
            verdict[f"{key}_holm"] = p
    return verdicts


def _pairs(
    first: dict[int, Any], second: dict[int, Any], metric: Metric
) -> dict[int, tuple[float, float]]:
    """By seed, where both rows have this number.

    Times are paired where both runs are of one machine, and all pairs of the one with the most.
    """
    pairs = {
        seed: (metric.value(first[seed]), metric.value(second[seed]))
        for seed in first
        if seed in second
    }
    pairs = {seed: pair for seed, pair in pairs.items() if None not in pair}
    if metric.kind != "time":
        return pairs
    places = {seed: {_place(first[seed]), _place(second[seed])} for seed in pairs}
    same = {seed: place for seed, (place, *others) in places.items() if not others}
    most = Counter(same.values()).most_common(1)
    return {seed: pairs[seed] for seed, place in same.items() if place == most[0][0]}


def _place(run: dict[str, Any]) -> tuple[Any, Any]:
    return run["environment"].get("device"), run["environment"].get("threads")


def primary_in_words(verdicts: Sequence[Verdict]) -> str | None:
    """The sentence below the title; None if the plan asks nothing."""
    if not verdicts:
        return None
    primary = verdicts[0]
    metric = metric_named(primary["metric"])
    asked = f"**Primary: {metric.words}, {' - '.join(primary['contrast'])}:"
    pairs = _count(primary)
    if primary["difference"] is None:
        return f"{asked} no pair of runs yet** ({pairs})."
    found = f"{asked} {primary['difference']:+.{_digits(metric)}f} {metric.unit}**"
    if primary["interval"] is None:
        return f"{found} ({pairs}: too few to test)."
    low, high = (f"{end:.{_digits(metric)}f}" for end in primary["interval"])
    p = f"t p = {_p(primary['t_p'])}, Wilcoxon p = {_p(primary['wilcoxon_p'])}"
    return f"{found} (95 % {low} to {high}; {pairs}; {p}).{_reach(verdicts[:1])}"


def others_in_words(verdicts: Sequence[Verdict]) -> str | None:
    """A table of all tests but the primary one, and how to read it; None if there is none."""
    others = verdicts[1:]
    if not others:
        return None
    table = markdown_table(("metric", "contrast", *COLUMNS), list(map(_cells, others)), left=2)
    note = (
        "Mean over the seeds of first minus second, in points (training time: in seconds), its "
        f"95 % interval by t, and p-values: as they are, and by Holm over these {len(others)} "
        f"tests.{_reach(others)}"
    )
    return f"### Other contrasts\n\n{table}\n\n{note}"


def _cells(verdict: Verdict) -> list[str]:
    metric = metric_named(verdict["metric"])
    digits, difference, interval = _digits(metric), verdict["difference"], verdict["interval"]
    keys = ("t_p", "t_p_holm", "wilcoxon_p", "wilcoxon_p_holm")
    return [
        metric.words,
        " - ".join(verdict["contrast"]),
        "" if difference is None else f"{difference:+.{digits}f}",
        "" if interval is None else " to ".join(f"{end:.{digits}f}" for end in interval),
        str(verdict["pairs"]),
        *(_p(verdict[key]) for key in keys),
    ]


def _digits(metric: Metric) -> int:
    return 1 if metric.kind == "time" else 2


def _count(verdict: Verdict) -> str:
    pairs, planned = verdict["pairs"], verdict["planned"]
    if pairs < planned:
        return f"{pairs} of {planned} planned pairs"
    return f"{pairs} pair{'s' * (pairs != 1)}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.0001" if value < 1e-4 else f"{value:.3g}"


def _reach(verdicts: Sequence[Verdict]) -> str:
    """What Wilcoxon's test cannot say with so few pairs; a sentence with a space before it."""
    counts = {verdict["pairs"] for verdict in verdicts if verdict["pairs"] > 1}
    few = sorted(count for count in counts if smallest_wilcoxon(count) > LEVEL)
    if not few:
        return ""
    least = ", ".join(f"{smallest_wilcoxon(count):g} with {count} pairs" for count in few)
    return f" Wilcoxon's p cannot be below {least}."
