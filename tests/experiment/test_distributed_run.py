"""Evaluation by several gloo processes, and how they leave together."""

import json
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from experiment.cifar.config.config import get_parser
from experiment.cifar.main import main as cifar_main
from experiment.flag.values import request_of
from experiment.imagenet.main import main as imagenet_main
from experiment.train.evaluation import evaluate
from experiment.train.failure import Stopped
from experiment.train.loop import fit
from experiment.train.preflight import refuse_other_flags
from experiment.train.recorder import Recorder
from experiment.train.task import Training
from model import RateModel, build_model
from tests.experiment.test_distributed_training import RECIPE, network
from tests.fault import micro_run
from tests.support.image_files import write_image_folder
from tests.support.interruption import main_until
from tests.support.micro_training import micro_data, micro_recipe, micro_state
from tests.support.processes import end_processes, run_processes, start_processes, wait_for
from util.checkpoint import save_checkpoint
from util.process.distributed import Group
from util.process.signals import StopRequest

SAMPLES, BATCHES = (2, *range(12, 17)), (1, 2, 3, 4, 6)


class TensorData(NamedTuple):
    """Images that a network takes as they are."""

    test: TensorDataset
    name: str = "noise"

    def to_input(self, images: Tensor) -> Tensor:
        return images


def evaluated(net: RateModel, dataset: TensorDataset, batch_size: int, group: Group) -> dict:
    recipe = replace(RECIPE, val_batch_size=batch_size)
    return evaluate(net, Training(TensorData(dataset), recipe, group), "test")


def evaluation_grid(group: Group) -> dict:
    """Counts of every N and batch size, in plain types."""
    images, labels = evaluation_data()
    net = network(classes=10)
    return {
        (n, batch): evaluated(net, TensorDataset(images[:n], labels[:n]), batch, group)
        for n in SAMPLES
        for batch in BATCHES
    }


def evaluation_data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(max(SAMPLES), 3, 16, 16, dtype=torch.float64, generator=generator)
    return images, torch.randint(10, (max(SAMPLES),), generator=generator)


@pytest.mark.parametrize("world_size", [2, 3])
def test_evaluation_counts_every_sample_once(world_size):
    """Six numbers of them, five batch sizes, two worlds, against the definition.

    Of three processes the last has none of two samples.
    """
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


def buffers_after_evaluation(group: Group) -> list[float]:
    """Running means that differ between processes before an evaluation, and after it."""
    net = network(classes=10)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(group.rank + 0.5)
    images, labels = evaluation_data()
    evaluated(net, TensorDataset(images, labels), 8, group)
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
    training = Training(micro_data(), micro_recipe(), group)
    with pytest.raises(Stopped):
        fit(micro_state(), training, recorder=recorder, stop=stop)
    return (Path(folder) / "saved").exists()


def test_no_process_leaves_before_the_first_has_saved(tmp_path):
    """torchrun would send the first one a second signal in the middle of it."""
    assert run_processes(leave, 2, str(tmp_path)) == [True, True]


def main_elsewhere(folder: str, *argv: str) -> dict:
    """The micro run, a process whose working folder does not have what paths name."""
    os.chdir(Path(folder, os.environ["RANK"]))
    return micro_run.main(argv)


def test_files_and_folders_need_be_seen_by_the_first_process_only(tmp_path):
    """Paths are those from its working folder, also in what a run goes on with."""
    for rank in "01":
        (tmp_path / rank).mkdir()
    more = "--arch vgg11 --T 1 --num_epoch 1 --init first.pt --resume auto --log_path runs"
    argv = [*micro_run.ARGUMENTS, *more.split()]
    net = build_model("vgg11", num_classes=10, T=1, width=2)
    save_checkpoint({"model": net.state_dict()}, tmp_path / "0" / "first.pt")
    first, again = (
        run_processes(main_elsewhere, 2, str(tmp_path), *argv, joined=False) for _ in "12"
    )
    assert first == again and first[0] == first[1]
    (config,) = tmp_path.glob("0/runs/*/config.json")
    assert json.loads(config.read_text())["identity"]["init"] == str(tmp_path / "0" / "first.pt")
    assert not list((tmp_path / "1").iterdir())


def flags_of_own(group: Group, flags: list[str]) -> str | None:
    """How a process with other flags than the first is refused."""
    request = request_of(get_parser().parse_args(flags if group.rank else []))
    try:
        refuse_other_flags(request, group)
    except ValueError as error:
        return str(error)
    finally:
        group.wait_for_all()
    return None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--T 5", "process 1 has other flags than the first, which has T 6 (here: 5): give them"),
        (
            "--checkpoint_every 2 --eval_every 3",
            "checkpoint_every none (here: 2), eval_every 1 (here: 3): give them",
        ),
        ("--init elsewhere.pt --num_workers 1 --log_path here", None),
    ],
)
def test_a_process_that_did_not_read_the_same_flags_is_refused(flags, words):
    first, second = run_processes(flags_of_own, 2, flags.split())
    assert first is None
    assert second is None if words is None else words in second


# Two epochs of 16 steps on noise; and a run on images in files.
NOISE = (
    "--dataset FakeData --arch resnet18 --width 4 --T 1 --train_batch_size 32 --val_batch_size 64 "
    "--num_epoch 2 --num_workers 0 --device cpu"
)
FILES = (
    "--arch resnet18 --width 2 --T 1 --image_size 32 --train_batch_size 4 --val_batch_size 4 "
    "--num_workers 2 --device cpu"
)


def test_a_stopped_process_makes_the_others_leave(tmp_path):
    """The last one gets SIGSTOP in its third step; it neither ends nor says a word."""
    timeout = 12  # seconds; what comes before the stop has to take less
    stderr = tmp_path / "stderr"
    argv = [*NOISE.split(), "--log_path", str(tmp_path), "--dist_timeout", str(timeout / 60)]
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
    argv = [*FILES.split(), "--data_path", str(folder), "--log_path", str(tmp_path)]
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
