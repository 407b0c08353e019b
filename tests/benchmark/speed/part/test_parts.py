"""The parts find what is wrong; that all of them pass in little is in `test_gpu`."""

import json
import math
import subprocess
import sys
import time

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.reference.two_stage import TwoStageNet
from benchmark.speed.part import bandwidth, kernels, network, steps, training
from benchmark.speed.part.finding import Line
from benchmark.speed.part.setting import SIZES, Setting
from benchmark.speed.workload import VARIANTS
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
        ("batch_statistics", lambda found: (found[0], 1.001 * found[1]), "statistics"),
        ("spikes", lambda spikes: 1 - spikes, "spikes of an evaluation"),
    ],
)
def test_a_wrong_kernel_is_found(function, spoil, where, setting, monkeypatch):
    right = getattr(kernel, function)
    monkeypatch.setattr(kernel, function, lambda *v, **named: spoil(right(*v, **named)))
    *rows, line = kernels.find(setting)
    assert not line.ok
    assert {row["kernel"] for row in rows if row["exceeds its bound"] != "nothing"} >= {
        row["kernel"] for row in rows if row["kernel"].startswith(where)
    }


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


def test_a_contestant_that_fails_does_not_cost_the_others(setting, monkeypatch):
    class OutOfResources(Exception):
        """As Triton's, no RuntimeError."""

    right = steps.step_of

    def failing(variant, workload):
        if variant is VARIANTS["bptt"]:
            raise OutOfResources("shared memory, required: 300000\nmore")
        return right(variant, workload)

    monkeypatch.setattr(steps, "step_of", failing)
    monkeypatch.setattr(steps, "EAGER", ("two_stage", "bptt", "floor"))
    monkeypatch.setattr(steps, "GRAPHS", ("one_pass_graph",))
    found = list(steps.find(setting))
    assert wrong_lines(found) == ["bptt failed: OutOfResources: shared memory, required: 300000"]
    rows = [row["step"] for row in found if isinstance(row, dict)]
    names = ["two_stage", "floor", "two_stage", "floor", "one_pass_graph"]
    assert rows == [VARIANTS[name].text for name in names]


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


def test_parts_are_forked_from_a_process_that_never_asks_for_a_gpu():
    """One that has asked cannot hand the GPU on to those that it forks."""
    program = (
        "import torch\n"
        "def asked(*_): raise AssertionError('asked for a GPU')\n"
        "torch._C._cuda_init = torch._C._cuda_getDeviceCount = asked\n"
        "from benchmark.speed.part.apart import PRELOADED\n"
        "for module in PRELOADED: __import__(module)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_launches_rotate_among_the_inputs(setting):
    order = []
    calls = [lambda name=name: order.append(name) for name in "abc"]
    assert bandwidth.bandwidth(setting, calls, 100) > 0
    assert order == list("ab") * (1 + bandwidth.WARM_UP), "two launches in little"


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
