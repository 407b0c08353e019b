"""Training and evaluation by several gloo processes against the same by one."""

import logging
import math
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

from experiment import engine, evaluation
from experiment.cifar.main import main as cifar_main
from experiment.engine import fit
from experiment.failure import NonFiniteError, Stopped
from experiment.gradient_pass import gradient_pass
from experiment.imagenet.main import main as imagenet_main
from experiment.recipe import Recipe
from experiment.recorder import Recorder
from experiment.training_state import TrainingState
from model import METHODS, RateModel, build_model
from model.batch_norm import synchronise
from model.distillation import SelfDistillationLoss
from tests.support.image_files import write_image_folder
from tests.support.interruption import main_until
from tests.support.micro_training import micro_data, micro_recipe, micro_state
from tests.support.processes import end_processes, run_processes, start_processes, wait_for
from util.distributed import Group
from util.signals import StopRequest

ALONE = Group(0, 1, torch.device("cpu"))
BATCH, CLASSES = 12, 7
RECIPE = Recipe(
    seed=0,
    num_epoch=1,
    train_batch_size=BATCH,
    val_batch_size=BATCH,
    num_workers=0,
    optim="SGDM",
    lr=0.1,
    wd=1e-3,
    scheduler="COSINE",
    alp=0.5,
    beta=0.3,
)


def network(*, arch: str = "resnet18", classes: int = CLASSES, **options) -> RateModel:
    """A narrow network in float64, the same weights every time."""
    torch.manual_seed(0)
    return build_model(
        arch, num_classes=classes, T=2, width=4, branch_pool=None, thresh=0.5, **options
    ).double()


def images_and_labels(steps: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Batches of noise, (12, 3, 16, 16), and labels of 7 classes."""
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH, 3, 16, 16, dtype=torch.float64, generator=generator),
            torch.randint(CLASSES, (BATCH,), generator=generator),
        )
        for _ in range(steps)
    ]


def train_steps(
    group: Group, *, frozen: bool, beta: float, accum: int, options: dict, sync_bn: bool = False
) -> dict:
    """Two steps of training by the engine; weights, gradients and metrics as arrays.

    frozen: batch norms use their running statistics, so that they do not couple the images.
    """
    net = network(**options)
    if sync_bn:
        synchronise(net, group)
    state = TrainingState(net, RECIPE, {})
    if group.world_size > 1:
        state.forward = DistributedDataParallel(
            net, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    net.train()
    if frozen:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        net.train = lambda: net  # the engine's call must not undo it
    parts = []
    for images, labels in images_and_labels(steps=2):
        images, labels = (x[group.rank :: group.world_size] for x in (images, labels))
        parts += zip(images.chunk(accum), labels.chunk(accum), strict=True)
    average = group.mean if group.world_size > 1 else None
    loss = SelfDistillationLoss(RECIPE.alp, beta, average=average)
    run = gradient_pass(state, loss, RECIPE, group)
    steps = engine.train_one_epoch(state, parts, run, lambda x: x, group, accum)
    assert sum(1 for _ in steps) == 2
    own_reliable = state.means.means()["reliable"]
    state.means.gather(group.sum, keep=True)
    return {
        "weights": {name: p.detach().numpy() for name, p in net.named_parameters()},
        "gradients": {name: p.grad.numpy() for name, p in net.named_parameters()},
        "buffers": {name: b.numpy() for name, b in net.named_buffers()},
        "means": state.means.means(),
        "own_reliable": own_reliable,
    }


def in_process(group: Group, keywords: dict) -> dict:
    return train_steps(group, **keywords)


def largest_difference(a: dict, b: dict, kind: str) -> float:
    """Over all tensors of a kind, relative to the largest value of each.

    Tensors of nothing but rounding (gradients of biases before a batch norm) have no such scale.
    """
    least = 1e-6 * max(float(np.abs(value).max()) for value in b[kind].values())
    return max(
        float(np.abs(a[kind][name] - value).max() / max(np.abs(value).max(), least))
        for name, value in b[kind].items()
    )


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_many_processes_take_the_step_of_one(world_size, method):
    keywords = {"frozen": True, "beta": 0.3, "accum": 1, "options": {"method": method}}
    one = train_steps(ALONE, **keywords)
    many = run_processes(in_process, world_size, keywords)
    for other in many:
        assert largest_difference(other, one, "gradients") < 1e-11
        assert largest_difference(other, one, "weights") < 1e-12
        assert other["means"]["total"] == pytest.approx(one["means"]["total"], rel=1e-12)
        assert other["means"]["head_top1"] == pytest.approx(one["means"]["head_top1"], rel=1e-6)
    # Otherwise the loss's average over reliable samples would be the same anyway.
    assert len({result["own_reliable"] for result in many}) > 1


@pytest.mark.parametrize(
    "options",
    [
        {"method": "esd"},
        {"method": "esd", "arch": "preact_resnet18"},
        {"method": "rate", "v_reset": 0.0},
        {"method": "bptt"},
        {"method": "bptt_checkpointed"},
        {"method": "sltt"},
        {"method": "ottt", "arch": "preact_resnet18"},
    ],
    ids=str,
)
def test_synchronised_batch_norms_make_the_whole_step_that_of_one_process(options):
    """Spike statistics over T*B of all processes, backward sums, running statistics, branches."""
    keywords = {"frozen": False, "beta": 0.3, "accum": 1, "options": options}
    one = train_steps(ALONE, **keywords)
    for other in run_processes(in_process, 2, {**keywords, "sync_bn": True}):
        assert largest_difference(other, one, "gradients") < 1e-8
        assert largest_difference(other, one, "weights") < 1e-9
        assert largest_difference(other, one, "buffers") < 1e-10
        assert other["means"]["total"] == pytest.approx(one["means"]["total"], rel=1e-11)


def test_without_synchronisation_batch_norms_differ():
    """So the test above does compare something."""
    keywords = {"frozen": False, "beta": 0.3, "accum": 1, "options": {"method": "rate"}}
    one = train_steps(ALONE, **keywords)
    for other in run_processes(in_process, 2, keywords):
        assert largest_difference(other, one, "gradients") > 1e-3


@pytest.mark.parametrize("accum", [2, 3])
def test_accumulated_parts_take_the_step_of_the_whole(accum):
    keywords = {"frozen": True, "beta": 0.0, "options": {}}
    whole = train_steps(ALONE, accum=1, **keywords)
    parts = train_steps(ALONE, accum=accum, **keywords)
    assert largest_difference(parts, whole, "gradients") < 1e-11
    assert largest_difference(parts, whole, "weights") < 1e-12
    assert parts["means"]["hard"] == pytest.approx(whole["means"]["hard"], rel=1e-12)


def test_accumulation_and_many_processes_go_together():
    keywords = {"frozen": True, "beta": 0.0, "options": {}}
    whole = train_steps(ALONE, accum=1, **keywords)
    for parts in run_processes(in_process, 2, {"accum": 3, **keywords}):
        assert largest_difference(parts, whole, "weights") < 1e-12


def poisoned_steps(group: Group) -> dict:
    """Three steps; the last process's second batch is not finite."""
    net = network()
    state = TrainingState(net, RECIPE, {})
    state.forward = DistributedDataParallel(net, broadcast_buffers=False)
    batches = [
        tuple(x[group.rank :: group.world_size] for x in batch) for batch in images_and_labels(3)
    ]
    if group.rank == group.world_size - 1:
        batches[1][0][0, 0, 3, 3] = math.nan
    loss = SelfDistillationLoss(0.5, 0.3, average=group.mean)
    run = gradient_pass(state, loss, RECIPE, group)
    steps, weights = 0, {}
    try:
        for _ in engine.train_one_epoch(state, batches, run, lambda x: x, group):
            steps += 1
            weights = {name: p.detach().clone() for name, p in net.named_parameters()}
    except NonFiniteError as error:
        same = all(p.equal(weights[name]) for name, p in net.named_parameters())
        return {"steps": steps, "untouched": same, "message": str(error)}
    return {"steps": steps, "untouched": False, "message": "none"}


def test_one_process_s_nan_stops_all_before_the_update():
    for result in run_processes(poisoned_steps, 2):
        assert result["steps"] == 1
        assert result["untouched"]
        assert "epoch 0, step 1" in result["message"]


SAMPLES, BATCHES = range(12, 17), (1, 2, 3, 4, 6)


def evaluation_grid(group: Group) -> dict:
    """Counts of every N and batch size, in plain types."""
    images, labels = evaluation_data()
    net = network(classes=10)
    return {
        (n, batch): evaluation.evaluate(
            net,
            TensorDataset(images[:n], labels[:n]),
            lambda x: x,
            batch_size=batch,
            num_workers=0,
            amp="none",
            group=group,
        )
        for n in SAMPLES
        for batch in BATCHES
    }


def evaluation_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(max(SAMPLES), 3, 16, 16, dtype=torch.float64, generator=generator)
    return images, torch.randint(10, (max(SAMPLES),), generator=generator)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_counts_every_sample_once(world_size):
    """N in 12 ... 16, five batch sizes, three worlds: 75 cases against the definition."""
    images, labels = evaluation_data()
    net = network(classes=10).eval()
    with torch.no_grad():
        logits = torch.stack(net.head_logits(images))  # (N heads, 16, 10)
    right = logits.argmax(-1) == labels
    among_five = (logits[-1].topk(5).indices == labels[:, None]).any(1)
    for results in run_processes(evaluation_grid, world_size):
        for (n, _), found in results.items():
            assert found["samples"] == n
            assert found["top1"] == 100 * int(right[-1, :n].sum()) / n
            assert found["top5"] == 100 * int(among_five[:n].sum()) / n
            assert found["head_top1"] == [100 * int(head[:n].sum()) / n for head in right]


def evaluate_two(group: Group) -> dict:
    images, labels = evaluation_data()
    dataset = TensorDataset(images[:2], labels[:2])
    return evaluation.evaluate(
        network(classes=10),
        dataset,
        lambda x: x,
        batch_size=4,
        num_workers=0,
        amp="none",
        group=group,
    )


def test_a_process_without_test_samples_agrees_with_the_others():
    first, second, third = run_processes(evaluate_two, 3)
    assert first == second == third
    assert first["samples"] == 2


def buffers_after_evaluation(group: Group) -> list[float]:
    """Running means that differ between processes before an evaluation, and after it."""
    net = network(classes=10)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(group.rank + 0.5)
    images, labels = evaluation_data()
    evaluation.evaluate(
        net,
        TensorDataset(images, labels),
        lambda x: x,
        batch_size=8,
        num_workers=0,
        amp="none",
        group=group,
    )
    return [b.unique().item() for n, b in net.named_buffers() if n.endswith("running_mean")]


def test_all_processes_evaluate_the_first_one_s_network():
    for means in run_processes(buffers_after_evaluation, 2):
        assert set(means) == {0.5}


class SlowRecorder(Recorder):
    """The first process takes a while to save, and says when it has."""

    def save(self, state, group, **options):
        super().save(state, group, **options)
        if group.is_first:
            time.sleep(1)
            (self.folder / "saved").touch()


def leave(group: Group, folder: str) -> bool:
    """Whether all was saved when this process left because of a signal to the second one."""
    stop = StopRequest()
    stop.requested = "SIGTERM" if group.rank == 1 else None
    recorder = SlowRecorder(Path(folder) if group.is_first else None, logging.getLogger("leave"))
    with pytest.raises(Stopped):
        fit(micro_state(), micro_data(), micro_recipe(), group=group, recorder=recorder, stop=stop)
    return (Path(folder) / "saved").exists()


def test_no_process_leaves_before_the_first_has_saved(tmp_path):
    """torchrun would send the first one a second signal in the middle of it."""
    assert run_processes(leave, 2, str(tmp_path)) == [True, True]


def command(folder: Path, *more: str) -> list[str]:
    """A short run on noise: two epochs of 16 steps."""
    return [
        "--dataset",
        "FakeData",
        "--arch",
        "resnet18",
        "--width",
        "4",
        "--T",
        "1",
        "--train_batch_size",
        "32",
        "--val_batch_size",
        "64",
        "--num_epoch",
        "2",
        "--num_workers",
        "0",
        "--device",
        "cpu",
        "--log_path",
        str(folder),
        *more,
    ]


def test_a_stopped_process_makes_the_others_leave(tmp_path):
    """The last one gets SIGSTOP in its third step; it neither ends nor says a word."""
    timeout = 12  # seconds; what comes before the stop has to take less
    stderr = tmp_path / "stderr"
    argv = command(tmp_path, "--dist_timeout", str(timeout / 60))
    processes, _server = start_processes(
        main_until, 2, cifar_main, argv, 3, 1, signal.SIGSTOP, stderr
    )
    try:
        wait_for(lambda: processes[0].exitcode is not None, 240)
        assert processes[0].exitcode == 1
        state = Path(f"/proc/{processes[1].pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "T", "stopped by the signal, and not ended"
    finally:
        end_processes(processes)
    assert "process 0 of 2 lost the others" in Path(f"{stderr}.0").read_text()


def imagenet_into(stderr: str, argv: list[str]) -> None:
    sys.stderr = open(f"{stderr}.{os.environ['RANK']}", "w", buffering=1)  # noqa: SIM115
    imagenet_main(argv)


def test_a_damaged_image_of_one_process_ends_all(tmp_path):
    """And the processes that load data for it; the other one is in an exchange then."""
    folder = write_image_folder(tmp_path / "images", classes=4, train=8)
    damaged = folder / "train" / "class_02" / "1.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:300])
    argv = [
        "--data_path",
        str(folder),
        "--arch",
        "resnet18",
        "--width",
        "2",
        "--T",
        "1",
        "--image_size",
        "32",
        "--train_batch_size",
        "4",
        "--val_batch_size",
        "4",
        "--num_workers",
        "2",
        "--device",
        "cpu",
        "--log_path",
        str(tmp_path),
    ]
    stderr = tmp_path / "stderr"
    processes, _server = start_processes(imagenet_into, 2, str(stderr), argv)
    try:
        wait_for(lambda: all(process.exitcode is not None for process in processes), 240)
        assert [process.exitcode for process in processes] == [1, 1]
    finally:
        end_processes(processes)
    said = [line for rank in (0, 1) for line in Path(f"{stderr}.{rank}").read_text().splitlines()]
    own, other = sorted(line for line in said if line.startswith("error: "))
    assert own.startswith(f"error: {damaged} cannot be read")
    assert "lost the others" in other
