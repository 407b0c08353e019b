"""Kill random processes of a distributed run under torchrun, and see whether anything is lost.

    python benchmark/restarts.py                      10 kills, about 3 minutes on two cores
    python benchmark/restarts.py --kills 3 --standalone

One run of two processes (CPU, gloo) is started with `torchrun --max-restarts` and `--resume auto`.
Again and again, at a random moment after it has made progress, one process gets SIGKILL; torchrun
then starts both again. The run has to end by itself, with the weights, the optimizer and the
metrics of a run that nothing disturbed. Exit code 1 if it does not.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # from any folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmark.command import Parser, run, whole_number
from benchmark.fault.micro_run import outcome, run_folders
from experiment.failure import RunFailed

ROOT = Path(__file__).resolve().parents[1]
PROCESSES = 2
STEPS_PER_EPOCH = 8  # of FakeData's 512 images
PATIENCE = 180  # seconds without progress
ENDED_EARLY = "the run ended before its next kill: start again, with fewer --kills if it repeats"


def command(log_path: Path, *, epochs: int, restarts: int, launcher: Sequence[str]) -> list[str]:
    """A narrow network on noise that is saved after every step."""
    return [
        sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={PROCESSES}",
        f"--max-restarts={restarts}", *launcher,
        str(ROOT / "experiment" / "cifar" / "main.py"), "--dataset", "FakeData", "--width", "2",
        "--T", "2", "--train_batch_size", str(512 // STEPS_PER_EPOCH), "--num_workers", "0",
        "--num_epoch", str(epochs), "--checkpoint_every", "1", "--device", "cpu",
        "--log_path", str(log_path), "--resume", "auto",
    ]  # fmt: skip


def run_with_kills(
    log_path: Path, *, kills: int, epochs: int, seed: int, launcher: Sequence[str] = ()
) -> dict[str, str]:
    """Train, killing a process so often; digests of what the run wrote (`micro_run.outcome`).

    Raises: RunFailed, with what torchrun printed if the run does not end well.
    """
    log_path.mkdir(parents=True)
    choose = random.Random(seed)
    output = log_path / "output.txt"
    argv = command(log_path, epochs=epochs, restarts=kills, launcher=launcher)
    with output.open("w", encoding="utf-8") as file:
        agent = subprocess.Popen(
            argv, stdout=file, stderr=subprocess.STDOUT, cwd=log_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        for number in range(kills):
            killed = kill_after_progress(agent, log_path, choose)
            print(f"kill {number + 1} of {kills}: process {killed}", flush=True)
        if agent.wait(PATIENCE + 10 * epochs * STEPS_PER_EPOCH) != 0:
            raise RunFailed(f"the run failed; what it printed last: {last_lines(output)}")
    finally:
        if agent.poll() is None:
            agent.terminate()  # it ends its processes
            agent.wait()
    (folder,) = run_folders(log_path)
    return outcome(folder)


def kill_after_progress(agent: subprocess.Popen, log_path: Path, choose: random.Random) -> int:
    """SIGKILL one process, a random moment after the next checkpoint; returns its rank."""
    before = newest_checkpoint(log_path)
    deadline = time.monotonic() + PATIENCE
    while newest_checkpoint(log_path) == before or len(workers(agent)) < PROCESSES:
        if agent.poll() == 0:
            raise RunFailed(ENDED_EARLY)
        if agent.poll() is not None or time.monotonic() > deadline:
            said = last_lines(log_path / "output.txt")
            raise RunFailed(f"the run made no progress after a kill; what it printed last: {said}")
        time.sleep(0.01)
    time.sleep(choose.uniform(0, 0.3))
    try:
        rank, pid = choose.choice(sorted(workers(agent).items()))
        os.kill(pid, signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        raise RunFailed(ENDED_EARLY) from None
    return rank


def last_lines(output: Path) -> str:
    """Of what torchrun printed, in one line."""
    return " / ".join(output.read_text(encoding="utf-8").splitlines()[-3:])


def newest_checkpoint(log_path: Path) -> int:
    """When the run's last.pt was written, in nanoseconds; 0 before."""
    return max((path.stat().st_mtime_ns for path in log_path.glob("*/last.pt")), default=0)


def workers(agent: subprocess.Popen) -> dict[int, int]:
    """{rank: process id} of the processes that torchrun has started and that live."""
    found = {}
    for task in Path(f"/proc/{agent.pid}/task").glob("*/children"):
        for pid in map(int, content(task).split()):
            variables = content(Path(f"/proc/{pid}/environ")).split(b"\0")
            ranks = [entry[5:] for entry in variables if entry.startswith(b"RANK=")]
            if ranks:
                found[int(ranks[0])] = pid
    return found


def content(path: Path) -> bytes:
    """A file below /proc; empty if the thread or process that it tells of has just ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def get_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--kills", type=whole_number, default=10,
        help="processes killed, one after the other (default: %(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0,
        help="of the moments and the processes (default: %(default)s)")  # fmt: skip
    parser.add_argument("--standalone", action="store_true",
        help="torchrun's c10d rendezvous (default: the static one)")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    args = get_parser().parse_args(argv)
    launcher = ["--standalone"] if args.standalone else [f"--master-port={free_port()}"]
    epochs = 1 + args.kills // 3
    with tempfile.TemporaryDirectory() as folder:
        options = {"epochs": epochs, "seed": args.seed, "launcher": launcher}
        begun = time.monotonic()
        undisturbed = run_with_kills(Path(folder, "undisturbed"), kills=0, **options)
        between = time.monotonic()
        disturbed = run_with_kills(Path(folder, "disturbed"), kills=args.kills, **options)
    ended = time.monotonic()
    same = disturbed == undisturbed
    print(
        f"{args.kills} kills, {args.kills} recoveries; the result is "
        f"{'identical to' if same else 'NOT that of'} the undisturbed run "
        f"({between - begun:.0f} s undisturbed, {ended - between:.0f} s with kills)"
    )
    return 0 if same else 1


def free_port() -> int:
    """A port that nobody listens on at present."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    raise SystemExit(run(main))
