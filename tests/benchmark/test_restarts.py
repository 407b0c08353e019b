"""The restart campaign with a single kill, and its parts."""

import subprocess
import sys
import time

import pytest

from benchmark.restarts import free_port, newest_checkpoint, run_with_kills, workers


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
