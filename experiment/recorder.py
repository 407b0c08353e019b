"""The folder of a run: everything that training writes, by the first process alone.

config.json          every argument, versions, command, git commit
train.log            what was printed
metrics.jsonl        one object per epoch
events.out.tfevents  the same for TensorBoard, if that is installed
last.pt, last-1.pt   the newest checkpoints
best.pt              the checkpoint of the best epoch
curves.png           loss, accuracy, reliable fraction and firing rates over the epochs, drawn when
                     the training ends, is asked to stop or fails
"""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from experiment.curves import distils, draw_curves
from experiment.packages import left_out_if_missing
from experiment.training_state import TrainingState
from util.checkpoint_history import save_newest
from util.distributed import Group
from util.record import MetricsFile

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Recorder:
    """Writes into `folder`; with folder None (not the first process) does nothing.

    A context manager around the training: what is left to write when it ends, is written then.
    """

    def __init__(self, folder: Path | None, logger: logging.Logger, *, keep_checkpoints: int = 2):
        self.folder, self.logger, self.keep_checkpoints = folder, logger, keep_checkpoints
        self._lines: int | None = None  # what metrics.jsonl holds; None: nothing was added yet
        self._board: SummaryWriter | None = None
        self._has_board = False
        self._thread_hook = threading.excepthook

    def __enter__(self) -> Recorder:
        if self.folder is not None:
            with left_out_if_missing(self._no_board):
                import_module("torch.utils.tensorboard")  # if that fails, it costs no epoch
                str(self.folder).encode("utf-8")
                self._has_board = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish the TensorBoard file and draw the curves.

        Not where the program is to end at once (KeyboardInterrupt), and the error that ended the
        training is never replaced by one from here. A picture that cannot be written is no failure
        of a training that has ended well.
        """
        if error is not None:
            with suppress(Exception):
                self._close_board()
                if isinstance(error, Exception):
                    self._draw_curves(self._records())
            return
        self._close_board()
        records = self._records()
        try:
            self._draw_curves(records)
        except Exception as own:  # whatever it is: the numbers are safe
            self.logger.warning(f"no curves: {own}")

    def write(self, record: dict[str, Any], state: TrainingState) -> None:
        """Append an epoch's record and print its line; counts it in the state.

        Before the state is saved: a run that is killed in between repeats the epoch, cuts
        metrics.jsonl back to the lines that its state counts and writes all of this again.
        Raises: OSError if it cannot be written; ValueError if metrics.jsonl was tampered with.
        """
        state.lines += 1
        if self.folder is None:
            return
        MetricsFile(self.folder / "metrics.jsonl").append(record)
        self._lines = state.lines
        self.logger.info(describe(record, state))
        self._write_board(record)
        self._records()  # tampering is noticed now, not when the training ends

    def save(self, state: TrainingState, group: Group, *, is_best: bool = False) -> None:
        """Save the state as the newest checkpoint and, if asked, the best; all processes call."""
        state.means.gather(group.sum, keep=group.is_first)
        if self.folder is None:
            return
        keep = self.keep_checkpoints
        save_newest(state.state_dict(), self.folder, keep=keep, is_best=is_best)

    def _records(self) -> list[dict[str, Any]]:
        """All records; ValueError if they are not those that were written."""
        if self.folder is None:
            return []
        metrics = MetricsFile(self.folder / "metrics.jsonl")
        records = metrics.read()
        if self._lines not in (None, len(records)):
            raise ValueError(
                f"{metrics.path} holds {len(records)} records after {self._lines} epochs: it was "
                "deleted or changed during the run"
            )
        return records

    def _draw_curves(self, records: list[dict[str, Any]]) -> None:
        if records:
            draw_curves(records, self.folder / "curves.png")

    def _write_board(self, record: dict[str, Any]) -> None:
        if not self._has_board:
            return
        if self._board is None:
            self._open_board(record["epoch"])
        for name, value in flattened(record):
            self._board.add_scalar(name, value, record["epoch"])
        self._board.flush()

    def _open_board(self, epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = self._thread_failed
        self._board = SummaryWriter(self.folder, purge_step=epoch)

    def _no_board(self, reason: str) -> None:
        self.logger.warning(f"{reason}; without them, metrics.jsonl has the same numbers")

    def _close_board(self) -> None:
        try:
            if self._board is not None:
                self._board.close()
        finally:
            threading.excepthook = self._thread_hook

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
    """An epoch in one line; of distillation only where there is some."""
    train, test, timing = record["train"], record["test"], record["timing"]
    parts = [f"epoch {record['epoch']}", f"loss {train['total']:.4f}"]
    if distils([record]):
        parts[1] += f" (hard {train['hard']:.4f}, soft {train['soft']:.4f})"
        parts.append(f"reliable {100 * train['reliable']:.1f} %")
    parts.append(f"train {train['head_top1'][-1]:.2f} %")
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
