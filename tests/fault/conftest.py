"""The fault campaign: runs are broken in every way that is known to lose work.

    python -m pytest tests/fault --faults --seed 1      all of it, about 20 minutes on one core
    python -m pytest tests/fault --faults --quick       fewer trials of each kind, one minute

At its end stands a table promise / tried / held. A network of 2 channels trains on 28 images.
"Identical" compares the weights, the optimizer, all other state and the metrics (apart from their
timing) with those of a run that nothing disturbed. With --faults nothing but trials is run. Without
it those are left out that need a process of their own, and test_campaign.py runs a quick campaign.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fault.trial import Runs
from util.figure import markdown_table

MARKERS = (
    "promise(text, full, quick): a trial of the fault campaign (tests/fault/trial.py)",
    "own_process: forks runs from its process, which must have computed nothing before",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the fault campaign (tests/fault)")
    group.addoption(
        "--faults", action="store_true", help="run the campaign alone and print its table"
    )
    group.addoption("--quick", action="store_true", help="fewer trials of each kind")
    group.addoption("--seed", type=int, default=0, help="of all that is chosen at random")


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def is_whole(config: pytest.Config) -> bool:
    """Whether each trial is made as often as in the whole campaign."""
    return config.getoption("faults", False) and not config.getoption("quick", False)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("promise")
    if mark is not None:
        _, full, quick = mark.args
        metafunc.parametrize(
            "trial", full if is_whole(metafunc.config) else quick, scope="function"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    campaign = config.getoption("faults", False)
    left_out = []
    for item in items:
        mark = item.get_closest_marker("promise")
        if mark is not None:
            item.user_properties.append(("promise", mark.args[0]))
        own_process = item.get_closest_marker("own_process") is not None
        if mark is None if campaign else own_process:
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    # Those that fork come first, as long as this process has computed nothing.
    items.sort(key=lambda item: "runs" not in getattr(item, "fixturenames", ()))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("faults", False):
        terminalreporter.section("promises")
        terminalreporter.write_line(table_of(terminalreporter.stats))


def table_of(stats: dict[str, list[Any]]) -> str:
    """How often each promise was tried and held, by the reports of pytest."""
    tried, held = Counter(), Counter()
    for outcome in ("passed", "failed", "error"):
        for report in stats.get(outcome, ()):
            promise = dict(report.user_properties).get("promise")
            if promise is not None:
                tried[promise] += 1
                held[promise] += outcome == "passed"
    rows = [(text, str(count), str(held[text])) for text, count in tried.items()]
    return markdown_table(("promise", "tried", "held"), rows)


@pytest.fixture
def choose(request: pytest.FixtureRequest, trial: Any) -> random.Random:
    """What one trial chooses by, whatever the others drew: that depends on the clock."""
    seed = request.config.getoption("seed", 0)
    return random.Random(f"{seed} {request.node.originalname} {trial}")


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A folder that forked processes do not clean up at their end, as pytest's or tempfile's."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def nothing_fetched() -> Iterator[None]:
    """A data set that is not there must be refused, not fetched."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy"):
            patch.setenv(name, "http://127.0.0.1:9")
        yield


@pytest.fixture(scope="session")
def runs(work: Path, nothing_fetched: None, request: pytest.FixtureRequest) -> Runs:
    torch.set_num_threads(1)  # before anything is computed: what follows is forked from here
    (work / "runs").mkdir()
    return Runs(work / "runs", epochs=3 if is_whole(request.config) else 2)
