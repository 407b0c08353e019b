"""A command of this project that is asked to stop at a step of its training."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiment.train.update import Update
from model.distillation import DistillationLoss


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
    end_step = Update.__call__
    calls = 0

    def signal_then_end(update: Update, loss: DistillationLoss) -> None:
        nonlocal calls
        calls += 1
        if calls == step and int(os.environ.get("RANK", 0)) == rank:
            os.kill(os.getpid(), request)
        end_step(update, loss)

    Update.__call__ = signal_then_end
    usual = sys.stderr
    sys.stderr = open(f"{stderr}.{os.environ.get('RANK', 0)}", "w", buffering=1)  # noqa: SIM115
    try:
        main(argv)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        Update.__call__ = end_step
        sys.stderr = usual
    return 0
