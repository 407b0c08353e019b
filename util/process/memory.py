"""How much memory there is, for this process and those beside it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# Of a container, in version 2 and in version 1 of control groups.
LIMITS = tuple(
    Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory/memory.limit_in_bytes")
)


def bytes_of_memory() -> int:
    """Of this machine, or of the container where that has less."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in LIMITS:
        with suppress(OSError, ValueError):  # it is not there, or says "max"
            memory = min(memory, int(limit.read_text()))
    return memory
