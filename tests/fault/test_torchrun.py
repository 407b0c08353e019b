"""Distributed runs of two processes (CPU, gloo) under torchrun: killed, and on two machines.

A run is started with `torchrun --max-restarts` and `--resume auto`. Again and again, at a random
moment after it has made progress, one process gets SIGKILL; torchrun then starts both again. The
run has to end by itself, with the weights, the optimizer and the metrics of a run that nothing
disturbed.

The two machines are network namespaces joined by a virtual cable: each has its own interfaces and
reaches the other at its address alone. In each, torchrun starts one process (`--nnodes=2`, static
master address). Needs Linux, the programs unshare, nsenter and ip, and the right to make user
namespaces.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fault.micro_run import outcome, run_folders
from tests.fault.trial import promise

ROOT = Path(__file__).parents[2]
PROCESSES = 2
STEPS_PER_EPOCH = 8  # of FakeData's 512 images
PATIENCE = 180  # seconds without progress
FLAGS = shlex.split(
    "--dataset FakeData --width 2 --T 2 --train_batch_size 64 --num_workers 0 --device cpu "
    "--checkpoint_every 1 --resume auto"
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
PROGRAMS = ("unshare", "nsenter", "ip")
NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
ADDRESS = "10.11.12"  # each node has the address ADDRESS.(1 + its number)
SECONDS = 300


def torchrun(log_path: Path, *launcher: str, epochs: int) -> list[str]:
    """A narrow network on noise under torchrun, `launcher` being the flags of the latter."""
    main = str(ROOT / "experiment" / "cifar" / "main.py")
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, main, *FLAGS]
    return [*command, "--num_epoch", str(epochs), "--log_path", str(log_path)]


class Agent:
    """torchrun in `log_path`, which starts its processes again after so many kills."""

    def __init__(self, log_path: Path, *, epochs: int, kills: int, launcher: Sequence[str]):
        self.log_path, self.output = log_path, log_path / "output.txt"
        log_path.mkdir(parents=True)
        launcher = [f"--nproc_per_node={PROCESSES}", f"--max-restarts={kills}", *launcher]
        command = torchrun(log_path, *launcher, epochs=epochs)
        self.patience = PATIENCE + 10 * epochs * STEPS_PER_EPOCH
        with self.output.open("w", encoding="utf-8") as file:
            streams = {"stdout": file, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(command, cwd=log_path, env=ENVIRONMENT, **streams)

    def kill_after_progress(self, choose: random.Random) -> None:
        """SIGKILL one process, a random moment after the next checkpoint."""
        before, deadline = self.newest_checkpoint(), time.monotonic() + PATIENCE
        while self.newest_checkpoint() == before or len(self.workers()) < PROCESSES:
            assert self.process.poll() is None, f"ended before the next kill: {self.last_lines()}"
            assert time.monotonic() < deadline, f"no progress after a kill: {self.last_lines()}"
            time.sleep(0.01)
        time.sleep(choose.uniform(0, 0.3))
        _, pid = choose.choice(sorted(self.workers().items()))
        os.kill(pid, signal.SIGKILL)

    def newest_checkpoint(self) -> int:
        """When the run's last.pt was written, in nanoseconds; 0 before."""
        found = self.log_path.glob("*/last.pt")
        return max((path.stat().st_mtime_ns for path in found), default=0)

    def workers(self) -> dict[int, int]:
        """{rank: process id} of the processes that torchrun has started and that live."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            for pid in map(int, content(task).split()):
                variables = content(Path(f"/proc/{pid}/environ")).split(b"\0")
                ranks = [entry[5:] for entry in variables if entry.startswith(b"RANK=")]
                if ranks:
                    found[int(ranks[0])] = pid
        return found

    def last_lines(self) -> str:
        """Of what torchrun printed, in one line."""
        return " / ".join(self.output.read_text(encoding="utf-8").splitlines()[-3:])


def content(path: Path) -> bytes:
    """A file below /proc; empty if the thread or process that it tells of has just ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def outcome_with_kills(
    log_path: Path, kills: int, choose: random.Random, *, epochs: int, launcher: Sequence[str]
) -> dict[str, str]:
    """Train, killing a process so often; digests of what the run wrote (`micro_run.outcome`)."""
    agent = Agent(log_path, epochs=epochs, kills=kills, launcher=launcher)
    try:
        for _ in range(kills):
            agent.kill_after_progress(choose)
        assert agent.process.wait(agent.patience) == 0, agent.last_lines()
    finally:
        if agent.process.poll() is None:
            agent.process.terminate()  # it ends its processes
            agent.process.wait()
    (folder,) = run_folders(log_path)
    return outcome(folder)


def free_port() -> int:
    """A port that nobody listens on at present."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
@promise(
    "torchrun, kill -9 of a random process (static rendezvous ten times, c10d four times): goes "
    "on by itself, identical",
    [("static", 10), ("c10d", 4)],
    [("static", 1)],
)
def test_a_killed_process_loses_nothing_under_torchrun(tmp_path, trial, choose):
    rendezvous, kills = trial
    launcher = ["--standalone"] if rendezvous == "c10d" else [f"--master-port={free_port()}"]
    options = {"epochs": 1 + kills // 3, "launcher": launcher}
    undisturbed = outcome_with_kills(tmp_path / "undisturbed", 0, choose, **options)
    assert outcome_with_kills(tmp_path / "disturbed", kills, choose, **options) == undisturbed
    text = (tmp_path / "disturbed" / "output.txt").read_text()
    assert "going on from" in text or "training from the beginning" in text
    assert text.count("run folder ") == kills + 1  # one for each attempt


def skip_without_namespaces() -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"the program {missing[0]} is not installed")
    trial = "ip link add node0 type veth peer name node1"
    attempt = subprocess.run([*NAMESPACE, "sh", "-c", trial], capture_output=True, text=True)
    if attempt.returncode != 0:
        pytest.skip(f"namespaces are not allowed here ({attempt.stderr.strip()})")


def script(log_path: Path) -> str:
    """A shell script for the namespace of node 0: makes the other one, joins them, trains."""
    nodes = []
    for node in (0, 1):
        place = (f"--node-rank={node}", f"--master-addr={ADDRESS}.1", "--master-port=29500")
        launcher = ("--nnodes=2", "--nproc_per_node=1", *place)
        command = shlex.join(torchrun(log_path, *launcher, epochs=1))
        nodes.append(f"GLOO_SOCKET_IFNAME=node{node} {command}")
    other = "nsenter --net=/proc/$other/ns/net"
    return f"""
set -e
unshare --net sleep {SECONDS} &
other=$!
while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
trap "kill $other" EXIT
ip link add node0 type veth peer name node1
ip link set node1 netns $other
ip address add {ADDRESS}.1/24 dev node0
ip link set node0 up
ip link set lo up
{other} ip address add {ADDRESS}.2/24 dev node1
{other} ip link set node1 up
{other} ip link set lo up
{other} env {nodes[1]} &
second=$!
env {nodes[0]}
wait $second
"""


@pytest.mark.slow
@promise("one run on two nodes, here two network namespaces: as two processes on one, identical")
def test_a_run_across_two_nodes_is_that_of_two_processes(tmp_path, trial, choose):
    skip_without_namespaces()
    one, two = tmp_path / "one", tmp_path / "two nodes"  # a path with a blank stays one argument
    two.mkdir()
    command = [*NAMESPACE, "sh", "-c", script(two)]
    options = {"env": ENVIRONMENT, "cwd": two, "timeout": SECONDS, "text": True}
    result = subprocess.run(command, capture_output=True, **options)
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    (folder,) = run_folders(two)
    on_one_node = outcome_with_kills(one, 0, choose, epochs=1, launcher=["--standalone"])
    assert outcome(folder) == on_one_node
