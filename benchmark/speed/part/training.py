"""Whole runs of experiment/cifar/main.py: with --cuda_graph and without, cut short and resumed.

Each run is a process of its own. Metrics of all must be the same numbers: a graph replays the same
kernels, and a resumed run is the same run.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from benchmark.reference.recording import record_here
from benchmark.speed.part.finding import Finding, Line
from benchmark.speed.part.setting import Setting
from experiment.cifar.main import main
from experiment.flag import idle as idle_flags
from experiment.train import graph as cuda_graph
from experiment.train.recorder import flattened
from util.file.record import MetricsFile

FLAGS = {
    "full": shlex.split("--num_epoch 3 --train_batch_size 32 --width 16 --T 4"),
    "small": shlex.split("--arch vgg11 --num_epoch 2 --train_batch_size 64 --width 2 --T 2"),
}
COMMON = ["--dataset", "FakeData", "--num_workers", "0", "--checkpoint_every", "2"]
POLL = 0.005  # seconds between two looks for a first checkpoint
STOPPED = 128 + signal.SIGTERM


def find(setting: Setting) -> Iterator[Finding]:
    """Lines on the runs, each against the one without a graph."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(setting, Path(folder))
        plain, graph, cut = runs.start("plain"), runs.start("graph"), runs.start("cut")
        runs.stop_after_first_checkpoint(cut, "cut")
        yield runs.ended("plain", plain)
        yield runs.ended("cut", cut, expected=STOPPED)
        again = runs.start("cut")
        yield runs.ended("graph", graph)
        yield runs.same_metrics("graph")
        yield runs.ended("cut", again)
        yield runs.same_metrics("cut")


class Runs:
    """Runs by name: "plain" without a graph, all others with one; each has a folder of its own."""

    def __init__(self, setting: Setting, folder: Path):
        self.setting, self.folder = setting, folder
        # Forked, not spawned: the libraries are there, and no process has touched the GPU yet.
        self.context = multiprocessing.get_context("fork")

    def start(self, name: str) -> BaseProcess:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        size = "full" if self.setting.on_gpu else "small"
        graph = "--no-cuda_graph" if name == "plain" else "--cuda_graph"
        place = ["--device", self.setting.device, "--log_path", str(folder), "--resume", "auto"]
        arguments = [*COMMON, *FLAGS[size], graph, *place]
        work = (arguments, folder / "output.txt")
        process = self.context.Process(target=train_in_process, args=work)
        process.start()
        return process

    def stop_after_first_checkpoint(self, process: BaseProcess, name: str) -> None:
        """SIGTERM, as a scheduler sends it, when something has been saved."""
        while process.is_alive() and not list((self.folder / name).glob("*/last.pt")):
            time.sleep(POLL)
        if process.is_alive():
            os.kill(process.pid, signal.SIGTERM)

    def ended(self, name: str, process: BaseProcess, expected: int = 0) -> Line:
        """How a run ends; with its last words if it should not have ended so."""
        process.join()
        if process.exitcode == expected:
            return Line(f"run {name}: ended with exit code {expected}, as it should")
        output = self.folder / name / "output.txt"
        words = output.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        return Line(
            f"run {name}: exit code {process.exitcode}, expected {expected}: {' / '.join(words)}",
            ok=False,
        )

    def same_metrics(self, name: str) -> Line:
        """Whether a run's records are those of the run without a graph, times excepted."""
        own, expected = self.metrics(name), self.metrics("plain")
        if own == expected and own:
            return Line(f"run {name}: {len(own)} epochs, every metric equal to run plain's")
        differences = {
            key: (mine, other)
            for mine_all, others in zip(own, expected, strict=False)
            for (key, mine), (_, other) in zip(mine_all, others, strict=True)
            if mine != other
        }
        first = next(iter(differences.items()), "the numbers of epochs")
        return Line(
            f"run {name}: {len(differences)} metrics differ from run plain's: {first}", ok=False
        )

    def metrics(self, name: str) -> list[list[tuple[str, float]]]:
        """(name, number) of each epoch's metrics."""
        files = (self.folder / name).glob("*/metrics.jsonl")
        records = [record for file in files for record in MetricsFile(file).read()]
        return [list(flattened({k: v for k, v in r.items() if k != "timing"})) for r in records]


def train_in_process(arguments: list[str], output: Path) -> None:
    """What a process of a run does; its words go to a file."""
    with output.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    on_cpu = arguments[arguments.index("--device") + 1] == "cpu"
    with recorded_by_stand_in() if on_cpu else nullcontext():
        main(arguments)


@contextmanager
def recorded_by_stand_in() -> Iterator[None]:
    """--cuda_graph on a CPU: with the stand-in for the recording."""

    stand_in = record_here([])
    with (
        patch.object(idle_flags, "on_gpu", lambda args: True),
        patch.object(cuda_graph, "record_on_gpu", lambda run, pool: stand_in(run)),
    ):
        yield
