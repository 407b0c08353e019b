"""One run on two machines, here two network namespaces joined by a virtual cable.

    python benchmark/two_nodes.py

Each namespace has its own network interfaces and reaches the other at its address alone, as two
machines do. In each, torchrun starts one process (`--nnodes=2`, static master address). The run has
to complete with the metrics of the same run in two processes of one machine. Needs Linux, the
programs unshare, nsenter and ip, and the right to make user namespaces; exit code 77 where that is
missing, 1 if the run fails.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # from any folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmark.command import Parser, run
from benchmark.fault.micro_run import outcome, run_folders
from experiment.failure import RunFailed

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("unshare", "nsenter", "ip")
NETWORK = "10.11.12"  # each node has the address NETWORK.(1 + its number)
SKIPPED = 77
SECONDS = 300


def reason_to_skip() -> str | None:
    """Why namespaces cannot be made here; None if they can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"the program {missing[0]} is not installed"
    trial = "ip link add node0 type veth peer name node1"
    attempt = subprocess.run([*inside_namespace(), "sh", "-c", trial], capture_output=True)
    if attempt.returncode != 0:
        return f"namespaces are not allowed here ({attempt.stderr.decode().strip()})"
    return None


def inside_namespace() -> list[str]:
    """The prefix of a command that shall be root of its own users and network."""
    return ["unshare", "--user", "--map-root-user", "--net"]


def launch(log_path: Path, *flags: str) -> list[str]:
    """One epoch of a narrow network on noise, under torchrun with these flags."""
    return [
        sys.executable, "-m", "torch.distributed.run", *flags,
        str(ROOT / "experiment" / "cifar" / "main.py"), "--dataset", "FakeData", "--width", "2",
        "--T", "1", "--train_batch_size", "64", "--num_workers", "0", "--num_epoch", "1",
        "--device", "cpu", "--log_path", str(log_path),
    ]  # fmt: skip


def script(log_path: Path) -> str:
    """A shell script for the namespace of node 0: makes the other one, joins them, trains."""
    nodes = []
    for node in (0, 1):
        flags = ("--nnodes=2", "--nproc_per_node=1", f"--node-rank={node}",
                 f"--master-addr={NETWORK}.1", "--master-port=29500")  # fmt: skip
        command = shlex.join(launch(log_path, *flags))
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
ip address add {NETWORK}.1/24 dev node0
ip link set node0 up
ip link set lo up
{other} ip address add {NETWORK}.2/24 dev node1
{other} ip link set node1 up
{other} ip link set lo up
{other} env {nodes[1]} &
second=$!
env {nodes[0]}
wait $second
"""


def run_on_two_nodes(log_path: Path) -> dict[str, str]:
    """Train across both namespaces; digests of what the run wrote (`micro_run.outcome`)."""
    return _finished([*inside_namespace(), "sh", "-c", script(log_path)], log_path)


def run_on_one_node(log_path: Path) -> dict[str, str]:
    """The same in two processes of this machine."""
    return _finished(launch(log_path, "--standalone", "--nproc_per_node=2"), log_path)


def _finished(command: list[str], log_path: Path) -> dict[str, str]:
    log_path.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=log_path, timeout=SECONDS
    )
    if result.returncode != 0:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
        raise RunFailed("the run failed; what it printed stands above")
    (folder,) = run_folders(log_path)
    return outcome(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    Parser(__doc__).parse_args(argv)
    reason = reason_to_skip()
    if reason is not None:
        print(f"skipped: {reason}")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        two = run_on_two_nodes(Path(folder, "two"))
        one = run_on_one_node(Path(folder, "one"))
    same = two == one
    print(f"two nodes finished; {'identical to' if same else 'NOT the same as'} one node")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(run(main))
