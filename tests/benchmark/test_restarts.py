"""The restart campaign with a single kill, and its parts."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark import restarts
from benchmark.restarts import free_port, newest_checkpoint, run_with_kills, workers
from experiment.failure import RunFailed


@pytest.mark.slow
def test_a_killed_process_loses_nothing_under_torchrun(tmp_path):
    launcher = [f"--master-port={free_port()}"]
    options = {"epochs": 1, "seed": 2, "launcher": launcher}
    undisturbed = run_with_kills(tmp_path / "undisturbed", kills=0, **options)
    assert run_with_kills(tmp_path / "disturbed", kills=1, **options) == undisturbed
    text = (tmp_path / "disturbed" / "output.txt").read_text()
    assert "going on from" in text or "training from the beginning" in text
    assert text.count("run folder ") == 2  # one for each attempt


def test_the_processes_of_an_agent_are_found_by_rank():
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    start = f"import os, subprocess; subprocess.run({sleep}, env={{**os.environ, 'RANK': '3'}})"
    agent = subprocess.Popen([sys.executable, "-c", start])
    try:
        deadline = time.monotonic() + 20
        while not workers(agent) and time.monotonic() < deadline:
            time.sleep(0.02)
        ((rank, pid),) = workers(agent).items()
        assert rank == 3 and pid != agent.pid
        subprocess.run(["kill", "-9", str(pid)], check=True)
    finally:
        agent.kill()
        agent.wait()


def test_progress_is_when_the_newest_checkpoint_was_written(tmp_path):
    assert newest_checkpoint(tmp_path) == 0
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes(b"")
    assert newest_checkpoint(tmp_path) == (tmp_path / "run" / "last.pt").stat().st_mtime_ns


class Agent:
    """An agent whose run goes on, or has ended well."""

    pid = 1

    def __init__(self, code: int | None):
        self.code = code

    def poll(self) -> int | None:
        return self.code


def test_a_thread_that_ends_while_it_is_looked_at_has_no_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "glob", lambda *_: [tmp_path / "ended" / "children"])
    assert workers(Agent(None)) == {}


def test_a_run_that_ends_before_it_is_killed_is_one_sentence(monkeypatch, tmp_path):
    with pytest.raises(RunFailed, match="the run ended before its next kill"):
        restarts.kill_after_progress(Agent(0), tmp_path, random.Random(0))

    there, moments = {0: 2, 1: 3}, iter((0, 1))
    monkeypatch.setattr(restarts, "newest_checkpoint", lambda folder: next(moments))
    monkeypatch.setattr(restarts, "workers", lambda agent: there)
    monkeypatch.setattr(restarts.time, "sleep", lambda seconds: there.clear())
    with pytest.raises(RunFailed, match="the run ended before its next kill"):
        restarts.kill_after_progress(Agent(None), tmp_path, random.Random(0))
