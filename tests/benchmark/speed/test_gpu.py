"""The benchmark for a GPU, in little on a CPU; and that its parts cannot spoil each other."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from benchmark.speed import gpu
from benchmark.speed.gpu import Part
from benchmark.speed.part.apart import ROOT, perform_part
from benchmark.speed.part.goal import MISSED, REACHED, all_verdicts
from benchmark.speed.part.setting import SIZES
from tests.support import part_case
from tests.support.processes import wait_for


def parts_of(monkeypatch, **finds):
    monkeypatch.setattr(gpu, "PARTS", {n: Part(n.title(), f, 1, 60) for n, f in finds.items()})


def small(folder, *arguments):
    return ["--device", "cpu", "--size", "small", "--output", str(folder), *arguments]


@pytest.mark.slow
def test_every_part_passes_in_little(tmp_path, capsys):
    record = gpu.main(small(tmp_path))
    assert [(part["part"], part["outcome"]) for part in record["parts"]] == [
        (name, "finished") for name in gpu.PARTS
    ]
    assert all(part["findings"] for part in record["parts"])
    assert json.loads((tmp_path / "gpu.json").read_text()) == record
    texts = [(tmp_path / "gpu.md").read_text(), capsys.readouterr().out]
    assert all(f"## {part.text}\n" in text for part in gpu.PARTS.values() for text in texts)
    assert record["machine"]["torch"] == torch.__version__
    assert {"cost.md", "cost.json", "cost.png"} <= set(os.listdir(tmp_path))
    assert all(text.count("## Goals\n") == 1 for text in texts)
    verdicts = all_verdicts(record["parts"])
    assert all(row["verdict"] in (REACHED, MISSED) for row in verdicts), "every goal has a number"


def test_parts_are_expected_to_fit_the_time_that_they_have():
    assert sum(part.expected for part in gpu.PARTS.values()) <= 60 * gpu.MINUTES
    assert all(part.expected < part.limit for part in gpu.PARTS.values())


def test_a_goal_that_is_missed_is_seen_and_fails_nothing(tmp_path, monkeypatch, capsys):
    parts_of(monkeypatch, slow=part_case.slow)
    gpu.main(small(tmp_path))
    page, printed = (tmp_path / "gpu.md").read_text(), capsys.readouterr().out
    assert "MISSED" in page[page.index("## Goals") : page.index("## Slow")]
    assert "MISSED" in printed[printed.index("## Goals") :] and "not measured" in page


def test_a_part_that_fails_costs_the_others_nothing(tmp_path, monkeypatch, capsys):
    parts_of(monkeypatch, raising=part_case.raising, well=part_case.well)
    with pytest.raises(SystemExit) as stop:
        gpu.main(small(tmp_path))
    assert stop.value.code == 1
    raising, well = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert raising["outcome"] == (
        "failed with exit code 1: RuntimeError: CUDA error: an illegal memory access was "
        "encountered"
    )
    assert raising["findings"] == [{"text": "so far so good", "ok": True}]
    assert well["findings"][0] == {"size": 4, "device": "cpu"}
    printed = capsys.readouterr().out
    assert "not as it should be: raising\n" in printed
    assert printed.count("so far so good") == 1 and re.search(r"\| +4 \| +cpu \|", printed)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert names == {"gpu.json", "gpu.md", "part", "part/raising.txt"}


def test_a_part_that_never_ends_is_ended_with_all_that_it_has_started(tmp_path):
    setting = part_case.Impatient("cpu", SIZES["small"], tmp_path, 0.0)
    found = perform_part(part_case.endless, setting, tmp_path / "endless")
    assert found["outcome"] == "stopped: its time was over"
    (child,) = found["findings"]
    assert_gone(child["child"])


def test_a_part_ends_with_the_command(tmp_path):
    """Asked to stop, as by `timeout`."""
    program = (
        "from benchmark.speed import gpu; from tests.support.part_case import endless\n"
        "gpu.PARTS = {'endless': gpu.Part('Endless', endless, 1, 600)}\n"
        f"gpu.main({small(tmp_path)!r})"
    )
    command = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    path = tmp_path / "part" / "endless.json"
    wait_for(lambda: '"child"' in part_case.read(path), 120)
    (found,) = json.loads(path.read_text())["findings"]
    command.terminate()
    assert command.wait() == 143
    assert_gone(found["child"])


def assert_gone(process: int) -> None:
    """It has ended, up to a moment in which the system takes it away."""
    with pytest.raises(ProcessLookupError):
        wait_for(lambda: os.kill(process, 0), seconds=10)


def test_a_part_that_finds_something_wrong_fails_the_command(tmp_path, monkeypatch):
    parts_of(monkeypatch, well=part_case.well, wrong=part_case.wrong)
    assert gpu.main(small(tmp_path, "--only", "well"))["parts"][0]["part"] == "well"
    with pytest.raises(SystemExit) as stop:
        gpu.main(small(tmp_path, "--only", "wrong"))
    assert stop.value.code == 1
    assert "two and two are five" in (tmp_path / "gpu.md").read_text()


def test_parts_are_left_out_when_the_minutes_are_over(tmp_path, monkeypatch):
    parts_of(monkeypatch, well=part_case.well)
    with pytest.raises(SystemExit):
        gpu.main(small(tmp_path, "--minutes", "1e-9"))
    (part,) = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert part["outcome"] == "left out: the 1e-09 minutes are over"
