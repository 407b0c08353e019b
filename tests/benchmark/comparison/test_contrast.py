"""What a plan asks, by which numbers it is judged, and how the report says it."""

import json
import re

import pytest

from benchmark.comparison import report
from benchmark.comparison.contrast import judge, others_in_words, primary_in_words
from benchmark.comparison.job import jobs_of
from benchmark.comparison.metric import WORDS, metric_named
from benchmark.comparison.plan import read_plan
from benchmark.comparison.provenance import origins_in_words
from benchmark.comparison.question import Question
from benchmark.comparison.statistic import holm, paired_test
from benchmark.comparison.summary import run_result, summarise
from tests.support.comparison import ENVIRONMENT, EVALUATION, PLAN, RECORD, complete, leave_run

ASKED = 'primary = "step 1"\ncontrasts = [["esd", "sltt"]]\nsecondary = ["last", "time"]\n'
HERE = {"processor": ENVIRONMENT["device"]}
STEPS = {"esd": [20.0, 24.0, 31.0], "sltt": [19.0, 21.0, 25.0]}  # after 1 step, by seed


def timed(*seconds: tuple[float, float | None]) -> list[dict]:
    """Records of epochs that took these seconds by the clock, and of the processor."""
    timings = [{"seconds": s, "cpu_seconds": cpu, "peak_memory_mib": 1.0} for s, cpu in seconds]
    kept = [{key: value for key, value in t.items() if value is not None} for t in timings]
    return [RECORD | {"timing": timing} for timing in kept]


# --- numbers of a run --------------------------------------------------------------------------


def test_every_metric_is_a_number_of_the_run(tmp_path) -> None:
    steps = [{"top1": 20.0}, {"top1": 50.0}, {"top1": 53.0}]
    records = timed((3, 2), (4, 2.5))
    records[-1] |= {"ema": {"test": {"top1": 60}}}
    leave_run(tmp_path / "run", records, EVALUATION | {"steps": steps}, command=f"in {tmp_path}")
    run = run_result(tmp_path / "run")
    expected = {"last": 50, "selected": 50, "best": 50, "ema": 60, "area": 41, "time": 4.5}
    assert expected.keys() == WORDS.keys()
    expected |= {"step 1": 20, "step 3": 53, "head 1": 30, "head 2": 50, "head 3": None}
    assert {name: metric_named(name).value(run) for name in expected} == expected
    assert str(tmp_path) not in str(run), "results are for others, who have no such folder"
    assert all(metric_named(name).name == name for name in expected)


@pytest.mark.parametrize(
    ("cuda", "cpu", "value"), [(None, 2.5, 4.5), (None, None, None), ("13.0", 2.5, 7)]
)
def test_time_is_the_processors_or_on_a_gpu_the_clocks(tmp_path, cuda, cpu, value) -> None:
    leave_run(tmp_path / "run", timed((3, 2), (4, cpu)), cuda=cuda)
    run = run_result(tmp_path / "run")
    assert run["training_seconds"] == 7
    assert metric_named("time").value(run) == value


# --- the verdict -------------------------------------------------------------------------------


@pytest.fixture
def compared(tmp_path):
    """Rows esd and sltt of three seeds; changes of the environment by (row, seed), None: no run."""

    def run(changes=None, asked: str = ASKED):
        path = tmp_path / "plan.toml"
        path.write_text(asked + PLAN.replace("[1, 2]", "[1, 2, 3]"))
        plan = read_plan(path)
        jobs = jobs_of(plan, tmp_path / "runs")
        for job in jobs:
            change = (changes or {}).get(job.key, {})
            if change is not None:
                first = STEPS[job.row.name][job.seed - 1]
                steps = [{"top1": first}, {"top1": 50.0}]
                records = timed((9.0, 2.0 + job.seed + (job.row.name == "sltt")))
                complete(job, records=records, evaluation=EVALUATION | {"steps": steps}, **change)
        entries = summarise(jobs, {}, plan.seeds)
        return entries, judge(plan.question, entries, len(plan.seeds))

    return run


def test_tests_are_of_pairs_by_seed_and_holm_spares_the_primary_one(compared) -> None:
    _, (primary, last, time) = compared()
    expected = paired_test(STEPS["esd"], STEPS["sltt"])
    assert primary["contrast"] == ["esd", "sltt"] and primary["seeds"] == [1, 2, 3]
    assert {key: primary[key] for key in expected._fields} == expected._asdict()
    assert "t_p_holm" not in primary
    assert (last["difference"], time["difference"]) == (0, -1)
    assert [last["t_p_holm"], time["t_p_holm"]] == holm([last["t_p"], time["t_p"]]) == [1, 0]
    assert [last["wilcoxon_p_holm"], time["wilcoxon_p_holm"]] == [1, 0.5]


def test_a_seed_that_one_row_lacks_is_no_pair(compared) -> None:
    _, (primary, *_) = compared({("sltt", 2): None})
    assert (primary["seeds"], primary["difference"]) == ([1, 3], 3.5)
    assert "2 of 3 planned pairs" in primary_in_words([primary])


@pytest.mark.parametrize(
    ("changes", "seeds"),
    [
        ({}, [1, 2, 3]),
        ({("esd", 2): {"device": "Xeon"}}, [1, 3]),
        ({("esd", 1): {"device": "Xeon"}, ("sltt", 1): {"device": "Xeon"}}, [2, 3]),
        ({("esd", seed): {"threads": 2} for seed in (1, 2, 3)}, []),
    ],
)
def test_times_are_of_one_machine_and_accuracies_of_any(compared, changes, seeds) -> None:
    _, (primary, last, time) = compared(changes)
    assert time["seeds"] == seeds and time["pairs"] == len(seeds)
    assert primary["seeds"] == last["seeds"] == [1, 2, 3]


# --- in words ----------------------------------------------------------------------------------


def verdict(first: list[float], second: list[float], metric: str = "step 1", planned: int = 5):
    about = {"metric": metric, "contrast": ["esd", "bptt"], "planned": planned}
    return about | paired_test(first, second)._asdict()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([], [], "no pair of runs yet** (0 of 5 planned pairs)."),
        ([2.0], [3.5], "-1.50 points** (1 of 5 planned pairs: too few to test)."),
        (
            [5.0, 7.0, 6.0, 9.0, 8.0],
            [4.0, 4.0, 4.5, 7.0, 8.5],
            "+1.40 points** (95 % -0.21 to 3.01; 5 pairs; t p = 0.0729, Wilcoxon p = 0.125). "
            "Wilcoxon's p cannot be below 0.0625 with 5 pairs.",
        ),
    ],
)
def test_the_primary_contrast_in_words(first, second, words) -> None:
    expected = f"**Primary: after 1 step, esd - bptt: {words}"
    assert primary_in_words([verdict(first, second)]) == expected


def test_six_pairs_can_say_something() -> None:
    found = verdict([1.0, 2, 3, 4, 5, 6], [0.0] * 6, "time", 6)
    end = "(95 % 1.5 to 5.5; 6 pairs; t p = 0.00593, Wilcoxon p = 0.0312)."
    assert primary_in_words([found]).endswith(end)
    assert "training time, esd - bptt: +3.5 s**" in primary_in_words([found])


def test_without_a_question_there_is_nothing_to_say(compared) -> None:
    entries, verdicts = compared(asked="")
    assert verdicts == [] and entries[0]["runs"]
    assert primary_in_words(verdicts) is None and others_in_words(verdicts) is None


def test_the_report_says_the_primary_contrast_first(compared, tmp_path) -> None:
    entries, verdicts = compared()
    heading = {
        "title": "plan",
        "command": "python",
        "machine": HERE,
        "jobs": 1,
        "threads": 1,
        "seeds": [1, 2, 3],
        "note": None,
        "shared": "",
        "own": {"sltt": "--method sltt"},
        "contrasts": verdicts,
    }
    report.write_results(tmp_path, entries, heading)
    text = (tmp_path / "results.md").read_text()
    start = "# Comparison: plan\n\n**Primary: after 1 step, esd - sltt: +3.33 points"
    assert text.startswith(start)
    order = ("**Primary", "| name | method", "How to read:", "### Other contrasts", "### Stopped")
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "\n- sltt: `--method sltt`\n" in text
    assert "seeds 1, 2, 3; 1,000 test images" in text and "never mixed" in text
    lines = [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line[:1] == "|"]
    assert ["esd", "25.00 ± 5.57", "50.00 ± 0.00", "37.50 ± 2.78"] in lines  # steps and area
    assert ["esd", "30.00 ± 0.00", "50.00 ± 0.00"] in lines  # heads
    names, own = (next(line for line in lines if line[0] == word) for word in ("name", "esd"))
    columns = dict(zip(names, own, strict=True))
    assert columns["training s"] == "9.0 ± 0.0" and columns["CPU s"] == "4.0 ± 1.0"
    assert ["training time", "esd - sltt", "-1.0", "-1.0 to -1.0", "3", "< 0.0001"] in [
        line[:6] for line in lines
    ]
    kept = json.loads((tmp_path / "results.json").read_bytes())
    assert [test["metric"] for test in kept["contrasts"]] == ["step 1", "last", "time"]


def test_a_question_tests_every_metric_with_every_contrast_once() -> None:
    metrics = [metric_named(name) for name in ("step 1", "area")]
    question = Question(metrics[0], (("a", "b"), ("a", "c")), (metrics[1],))
    assert question.tests() == [(m, c) for m in metrics for c in (("a", "b"), ("a", "c"))]


# --- where runs are from -----------------------------------------------------------------------


def test_runs_of_one_machine_need_no_words(compared) -> None:
    entries, _ = compared({("esd", 2): {"command": "python main.py --again"}})
    assert origins_in_words(entries, HERE) is None
    assert "device AMD EPYC: seeds 1, 2, 3" in origins_in_words(entries, {"processor": "Xeon"})
    assert origins_in_words(entries, {"processor": "Xeon", "gpu": "AMD EPYC"}) is None


def test_runs_of_several_machines_are_told_apart(compared) -> None:
    entries, _ = compared({("esd", 2): {"device": "H100", "cuda": "13.0"}})
    assert origins_in_words(entries, HERE).splitlines()[2:] == [
        "- device AMD EPYC, cuda null: esd 1, 3; sltt 1, 2, 3",
        "- device H100, cuda 13.0: esd 2",
    ]


def test_a_long_series_is_thinned_and_keeps_its_ends(compared) -> None:
    entries, _ = compared()
    for length, shown in (
        (12, range(12)),
        (200, (0, 18, 36, 54, 72, 90, 109, 127, 145, 163, 181, 199)),
    ):
        for entry in entries:
            entry["mean"]["reliable"] = [(float(epoch), None) for epoch in range(length)]
        header, _, *rows = report._series_table(entries, "reliable", "epoch", first=0).splitlines()
        assert [int(epoch) for epoch in re.findall(r"epoch (\d+)", header)] == list(shown)
        assert all(f" {length - 1:.2f} |" in row and " 0.00 |" in row for row in rows)
