"""The folder of a run: everything that training writes, by the first process alone.

config.json          every argument, versions, command, git commit
train.log            what was printed
metrics.jsonl        one object per epoch
events.out.tfevents  the same for TensorBoard
last.pt, last-1.pt   the newest checkpoints
best.pt              the checkpoint of the best epoch
curves.png           loss, accuracy, reliable fraction and firing rates over the epochs
"""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from experiment.curves import draw_curves
from experiment.training_state import TrainingState
from util.checkpoint import save_checkpoint
from util.checkpoint_history import BEST, save_newest
from util.distributed import Group
from util.record import MetricsFile


class Recorder:
    """Writes into `folder`; with folder None (not the first process) does nothing."""

    def __init__(self, folder: Path | None, logger: logging.Logger, *, keep_checkpoints: int = 2):
        self.folder, self.logger, self.keep_checkpoints = folder, logger, keep_checkpoints
        self._board: SummaryWriter | None = None
        self._thread_hook = threading.excepthook

    def write(self, record: dict[str, Any], state: TrainingState) -> None:
        """Append an epoch's record, print its line, draw the curves; counts it in the state.

        Before the state is saved: a run that is killed in between repeats the epoch, cuts
        metrics.jsonl back to the lines that its state counts and writes all of this again.
        Raises: OSError if it cannot be written; ValueError if metrics.jsonl was tampered with.
        """
        state.lines += 1
        if self.folder is None:
            return
        metrics = MetricsFile(self.folder / "metrics.jsonl")
        metrics.append(record)
        self.logger.info(describe(record, state))
        self._write_board(record)
        records = metrics.read()
        if len(records) != state.lines:
            raise ValueError(
                f"{metrics.path} holds {len(records)} records after epoch {record['epoch']}: it "
                "was deleted or changed during the run"
            )
        draw_curves(records, self.folder / "curves.png")

    def save(self, state: TrainingState, group: Group, *, is_best: bool = False) -> None:
        """Save the state as the newest checkpoint and, if asked, as the best; all processes call.

        The best is saved first: if the process is killed in between, the epoch is repeated and
        saves the same again.
        """
        state.means.gather(group.sum, keep=group.is_first)
        if self.folder is None:
            return
        content = state.state_dict()
        if is_best:
            save_checkpoint(content, self.folder / BEST)
        save_newest(content, self.folder, keep=self.keep_checkpoints)

    def close(self) -> None:
        """Finish the TensorBoard file."""
        try:
            if self._board is not None:
                self._board.close()
        finally:
            threading.excepthook = self._thread_hook

    def _write_board(self, record: dict[str, Any]) -> None:
        if self._board is None:
            threading.excepthook = self._thread_failed
            self._board = SummaryWriter(self.folder, purge_step=record["epoch"])
        for name, value in flattened(record):
            self._board.add_scalar(name, value, record["epoch"])
        self._board.flush()

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard raises an OSError of its thread in ours again: one report is enough."""
        if not issubclass(failure.exc_type, OSError):
            self._thread_hook(failure)


def flattened(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """(name/part, number) for every number of a nested record."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            yield from flattened(dict(enumerate(value, 1)), f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def describe(record: dict[str, Any], state: TrainingState) -> str:
    """An epoch in one line."""
    train, test, timing = record["train"], record["test"], record["timing"]
    parts = [
        f"epoch {record['epoch']}",
        f"loss {train['total']:.4f} (hard {train['hard']:.4f}, soft {train['soft']:.4f})",
        f"reliable {100 * train['reliable']:.1f} %",
        f"train {train['head_top1'][-1]:.2f} %",
    ]
    if "validation" in record:
        parts.append(f"validation {record['validation']['top1']:.2f} %")
    parts += [
        f"test {test['top1']:.2f} %",
        f"best {state.best['top1']:.2f} % (epoch {state.best['epoch']})",
        f"{timing['images_per_second']:.0f} images/s",
    ]
    return "; ".join(parts)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder against other processes; the system lets go when this one ends.

    Raises: ValueError if another process is training in it; OSError if it cannot be locked.
    """
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is training in {folder}: wait for it, or start a new run "
                "without --resume"
            ) from None
        yield
