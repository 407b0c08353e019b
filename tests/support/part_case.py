"""Parts of `benchmark.speed.gpu` that end badly; their processes import them by name."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.speed.part.finding import Finding, Line
from benchmark.speed.part.goal import EPOCH, verdict
from benchmark.speed.part.setting import Setting
from tests.support.processes import wait_for


def well(setting: Setting) -> Iterator[Finding]:
    yield {"size": setting.size.batch, "device": setting.device}
    yield Line("that was all")


def raising(setting: Setting) -> Iterator[Finding]:
    yield Line("so far so good")
    raise RuntimeError(
        "CUDA error: an illegal memory access was encountered\n"
        "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
    )


class Impatient(Setting):
    """There is time until the part has found something."""

    def seconds_left(self) -> float:
        wait_for(lambda: '"child"' in read(self.folder / "endless.json"), 120)
        return 0.0


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def endless(setting: Setting) -> Iterator[Finding]:
    """Leaves a child's process number, and never ends."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    yield {"child": child.pid}
    time.sleep(1000)


def slow(setting: Setting) -> Iterator[Finding]:
    yield verdict(EPOCH, 7.0, "seven times its steps")


def wrong(setting: Setting) -> Iterator[Finding]:
    yield Line("two and two are five", ok=False)
