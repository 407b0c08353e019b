"""The parts find what is wrong; that all of them pass in little is in `test_gpu`."""

import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.reference.two_stage import TwoStageNet
from benchmark.speed.measure import Rounds
from benchmark.speed.part import (
    bandwidth,
    branches,
    epoch,
    goal,
    kernels,
    large,
    launch,
    network,
    steps,
    training,
)
from benchmark.speed.part.finding import Line
from benchmark.speed.part.setting import SIZES, Setting
from benchmark.speed.workload import VARIANTS
from experiment.train import loop
from model import kernel
from model.distillation import SelfDistillationLoss
from tests.support.host_copies import HostCopies


@pytest.fixture
def setting(tmp_path):
    return Setting("cpu", SIZES["small"], tmp_path, time.monotonic() + 1000)


def wrong_lines(findings):
    return [finding.text for finding in findings if isinstance(finding, Line) and not finding.ok]


@pytest.mark.parametrize(
    ("function", "spoil", "where"),
    [
        ("fire", lambda fired: fired._replace(train=1 - fired.train), ("fire", "norm")),
        ("fire_backward", lambda found: found._replace(beta=found.beta + 0.01), "backward"),
        ("batch_statistics", lambda found: (found[0], 1.001 * found[1]), "batch norm"),
        ("norm_constants", lambda found: 1.001 * found, "batch norm"),
        ("spikes", lambda spikes: 1 - spikes, "spikes of an evaluation"),
    ],
)
def test_a_wrong_kernel_is_found(function, spoil, where, setting, monkeypatch):
    right = getattr(kernel, function)
    monkeypatch.setattr(kernel, function, lambda *v, **named: spoil(right(*v, **named)))
    *rows, line = kernels.find(setting)
    assert not line.ok
    expected = {row["kernel"] for row in rows if row["kernel"].startswith(where)}
    found = {row["kernel"] for row in rows if row["exceeds its bound"] != "nothing"}
    assert expected and found >= expected


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-6, math.nan])
def test_a_wrong_gradient_is_found(factor, setting, monkeypatch):
    right = kernel.fire_backward

    def spoilt(*values, **named):
        found = right(*values, **named)
        return found._replace(gamma=factor * found.gamma)

    monkeypatch.setattr(kernel, "fire_backward", spoilt)
    assert len(wrong_lines(network.find(setting))) == (0 if factor == 1.0 else 2)


def test_a_kernel_that_raises_does_not_cost_the_others(setting, monkeypatch):
    class CompilationError(Exception):
        """As Triton's, no RuntimeError."""

    def raising(*values, **named):
        raise CompilationError("at 3:1:\n a whole page")

    monkeypatch.setattr(kernel, "fire", raising)
    *rows, line = kernels.find(setting)
    assert not line.ok
    found = [row["exceeds its bound"] for row in rows]
    assert set(found) == {"raised CompilationError: at 3:1:", "nothing"}


class OutOfResources(Exception):
    """As Triton's, no RuntimeError."""


def failing_for(step_of, is_too_much):
    """`step_of`, but for what is too much of a variant and a workload."""

    def failing(variant, workload):
        if is_too_much(variant, workload):
            raise OutOfResources("shared memory, required: 300000\nmore")
        return step_of(variant, workload)

    return failing


def test_a_contestant_that_fails_does_not_cost_the_others(setting, monkeypatch):
    failing = failing_for(steps.step_of, lambda variant, _: variant is VARIANTS["bptt"])
    monkeypatch.setattr(steps, "step_of", failing)
    monkeypatch.setattr(steps, "EAGER", ("two_stage", "bptt", "floor"))
    monkeypatch.setattr(steps, "GRAPHS", ("one_pass_graph",))
    found = list(steps.find(setting))
    assert wrong_lines(found) == ["bptt failed: OutOfResources: shared memory, required: 300000"]
    rows = [row["step"] for row in found if "step" in getattr(row, "keys", tuple)()]
    names = ["two_stage", "floor", "two_stage", "floor", "one_pass_graph"]
    assert rows == [VARIANTS[name].text for name in names]


def test_ratios_and_verdicts_are_those_of_the_times(setting):
    race = steps.Race(setting)
    assert list(race.verdicts()) == []
    list(race.run(("floor", "floor_fp16")))
    names = ("two_stage", steps.FAIREST, "one_pass_graph", "one_pass_fp16_graph", "bptt")
    race.seconds |= dict(zip(names, (8.0, 4.0, 2.0, 1.25, 0.5), strict=True))
    race.seconds |= {"floor": 0.5, "floor_fp16": 0.05}
    race.copy = race.ready["floor"].step.traffic.total / 0.7
    assert race.ratio("two_stage", "one_pass_graph") == 4.0
    assert race.ratio("one_pass", "one_pass_graph") is None
    assert race.share_of_roofline("one_pass_graph") == pytest.approx(0.6)
    assert race.share_of_roofline("bptt") is race.share_of_roofline("two_stage") is None
    verdicts = [(own["verdict"], own["measured"]) for own in race.verdicts()]
    share = race.share_of_roofline("one_pass_fp16_graph")
    assert verdicts == [
        *(("MISSED", 4.0), ("MISSED", 2.0), ("reached", pytest.approx(0.6))),
        *(("reached", 6.4), ("reached", 3.2), (goal.MISSED, share)),
    ]


@pytest.mark.parametrize(
    ("room", "largest", "tried"),
    [
        (2, 2, [2, 4, 3]),
        (6, 6, [2, 4, 8, 6]),
        (7, 6, [2, 4, 8, 6]),
        (100, 16, [2, 4, 8, 16]),
        (1, 0, [2]),
    ],
)
def test_the_largest_batch_is_found(room, largest, tried, setting, monkeypatch):
    """Up to a cap of 16."""
    size = setting.size._replace(large=(32, 2, 16))
    trials = large.Trials(replace(setting, size=size))
    order = []
    monkeypatch.setattr(trials, "fits", lambda _, batch: order.append(batch) or batch <= room)
    assert (trials.largest(VARIANTS["one_pass"]), order) == (largest, tried)
    assert trials.first(VARIANTS["one_pass"], large.down_from(largest)) == largest
    assert list(large.down_from(16)) == [16, 12, 9, 6, 4, 3, 2, 1]


def test_a_batch_without_memory_is_named_and_ends_the_doubling(setting, monkeypatch):
    failing = failing_for(large.step_of, lambda _, workload: workload.batch > 2)
    monkeypatch.setattr(large, "step_of", failing)
    monkeypatch.setattr(large, "ROUNDS", Rounds(1, 0))
    found = list(large.find(replace(setting, size=setting.size._replace(width=4))))
    assert [row["largest batch"] for row in found if "largest batch" in row] == [2] * 4
    lines = [finding for finding in found[1:] if isinstance(finding, Line)]
    reason = "OutOfResources: shared memory, required: 300000"
    expected = [f"{VARIANTS[n].text}, B = {b}: {reason}" for n in large.NAMES for b in (4, 3)]
    assert [line.text for line in lines] == expected and all(line.ok for line in lines)


def test_a_way_of_the_branches_that_fails_does_not_cost_the_others(setting, monkeypatch):
    def no_compiler(*_, **__):
        raise OutOfResources("no compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    _, *found = branches.find(setting)
    rows = [(row["what"], row["layout"]) for row in found if isinstance(row, dict)]
    assert set(rows) == set(
        product(("branches", branches.DEPTHWISE), ("channels_last", "contiguous"))
    )
    assert len(wrong_lines(found)) == 1


def test_an_epoch_is_all_between_two_records(setting, monkeypatch):
    """By a clock that moves by a second with each step, and by three with each evaluation."""
    now = [0.0]
    monkeypatch.setattr(epoch.time, "perf_counter", lambda: now[0])

    def moving(function, seconds):
        def moved(*arguments, **named):
            now[0] += seconds
            return function(*arguments, **named)

        return moved

    monkeypatch.setattr(loop, "take_step", moving(loop.take_step, 1.0))
    monkeypatch.setattr(loop, "evaluate", moving(loop.evaluate, 3.0))
    assert epoch.seconds_of_epochs(setting, []) == [4 * 1.0 + 3.0] * epoch.EPOCHS


def test_a_two_stage_step_copies_nothing_between_host_and_gpu():
    """No graph could hold it. Seen on fake tensors, which need no GPU."""
    with FakeTensorMode():
        with torch.device("cuda"):
            net = TwoStageNet("resnet18", num_classes=5, T=3, width=4, branch_pool=None)
            images, labels = torch.randn(4, 3, 16, 16), torch.randint(5, (4,))
        with HostCopies() as copies:
            heads = net.train_step_logits(images)
            loss = SelfDistillationLoss(1.0, 0.3)(heads, labels).total
        assert loss.device.type == "cuda" and copies.found == []


def test_parts_are_forked_from_a_process_that_asks_for_no_gpu_and_no_further_package():
    """One that has asked cannot hand the GPU on to those that it forks. As the command, it
    takes no package beside torch: on a machine with a GPU there may be none."""
    program = (
        "import sys, torch\n"
        "sys.modules |= dict.fromkeys(('spikingjelly', 'progress', 'sklearn'))\n"
        "def asked(*_): raise AssertionError('asked for a GPU')\n"
        "torch._C._cuda_init = torch._C._cuda_getDeviceCount = asked\n"
        "import benchmark.speed.gpu\n"
        "from benchmark.speed.part.apart import PRELOADED\n"
        "for module in PRELOADED: __import__(module)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_launches_rotate_among_the_inputs(setting):
    order = []
    calls = [lambda name=name: order.append(name) for name in "abc"]
    assert bandwidth.bandwidth(setting, calls, 100) > 0
    assert order == list("ab") * (1 + launch.WARM_UP), "two launches in little"


def test_a_run_with_other_metrics_is_found(setting, tmp_path):
    runs = training.Runs(setting, tmp_path)
    record = {"epoch": 0, "train": {"total": 2.5}, "timing": {"seconds": 1.0}}
    for name, changes in {"plain": {}, "graph": {"timing": {}}, "cut": {"epoch": 1}}.items():
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run" / "metrics.jsonl").write_text(json.dumps(record | changes) + "\n")
    assert runs.same_metrics("graph").ok, "times may differ"
    assert runs.same_metrics("cut") == Line(
        "run cut: 1 metrics differ from run plain's: ('epoch', (1, 0))", ok=False
    )
    (tmp_path / "cut" / "run" / "metrics.jsonl").write_text("")
    assert not runs.same_metrics("cut").ok
