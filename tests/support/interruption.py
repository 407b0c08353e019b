"""A command of this project that is asked to stop at a step of its training."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiment.train.state import TrainingState


def main_until(
    main: Callable[[Sequence[str]], Any],
    argv: Sequence[str],
    step: int,
    rank: int,
    request: signal.Signals,
    stderr: Path,
) -> int:
    """`main(argv)`, whose process of one rank sends itself a signal after so many backward passes.

    Returns: the exit code; what it wrote to stderr is in the file `stderr`, one per rank.
    """
    update = TrainingState.update
    calls = 0

    def signal_then_update(state: TrainingState) -> None:
        nonlocal calls
        calls += 1
        if calls == step and int(os.environ.get("RANK", 0)) == rank:
            os.kill(os.getpid(), request)
        update(state)

    TrainingState.update = signal_then_update
    usual = sys.stderr
    sys.stderr = open(f"{stderr}.{os.environ.get('RANK', 0)}", "w", buffering=1)  # noqa: SIM115
    try:
        main(argv)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        TrainingState.update = update
        sys.stderr = usual
    return 0
