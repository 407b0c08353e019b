"""Parts of `benchmark/gpu.py` that end badly; their processes import them by name."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmark.part.finding import Finding, Line
from benchmark.part.setting import Setting


def well(setting: Setting) -> Iterator[Finding]:
    yield {"size": setting.size.batch, "device": setting.device}
    yield Line("that was all")


def raising(setting: Setting) -> Iterator[Finding]:
    yield Line("so far so good")
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def endless(setting: Setting) -> Iterator[Finding]:
    """Leaves a child's process number, and never ends."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    yield {"child": child.pid}
    time.sleep(1000)


def wrong(setting: Setting) -> Iterator[Finding]:
    yield Line("two and two are five", ok=False)
