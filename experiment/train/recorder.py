"""What training writes into the folder of a run, by the first process alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiment.curves import draw_curves
from experiment.packages import left_out_if_missing
from experiment.train.diagnosis import diagnose
from experiment.train.folder import AVERAGED, read_records
from experiment.train.log_line import describe_epoch
from experiment.train.state import TrainingState
from util.checkpoint import save_checkpoint
from util.file.history import save_newest
from util.file.record import MetricsFile
from util.process.distributed import Group

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Recorder:
    """Writes into `folder`; with folder None (not the first process) does nothing.

    A context manager around the training: what is left to write when it ends, is written then.
    """

    def __init__(self, folder: Path | None, logger: logging.Logger, *, keep_checkpoints: int = 2):
        self.folder, self.logger, self.keep_checkpoints = folder, logger, keep_checkpoints
        self._lines: int | None = None  # what metrics.jsonl holds; None: nothing was added yet
        self._make_board: Callable[..., SummaryWriter] | None = None
        self._board: SummaryWriter | None = None
        self._thread_hook = threading.excepthook

    def __enter__(self) -> Recorder:
        if self.folder is not None:
            without = "{}; without them, metrics.jsonl has the same numbers"
            with left_out_if_missing(lambda reason: self.logger.warning(without.format(reason))):
                board = import_module("torch.utils.tensorboard")  # if that fails, it costs no epoch
                str(self.folder).encode("utf-8")
                self._make_board = board.SummaryWriter
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
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
        """Append an epoch's record, print its line and a symptom, if any; counts it in the state.

        Before the state is saved: a run that is killed in between repeats the epoch, cuts
        metrics.jsonl back to the lines that its state counts and writes all of this again.
        Raises: OSError if it cannot be written; ValueError if metrics.jsonl was tampered with.
        """
        state.lines += 1
        if self.folder is None:
            return
        MetricsFile(self.folder / "metrics.jsonl").append(record)
        self._lines = state.lines
        self.logger.info(describe_epoch(record, state.best))
        self._write_board(record)
        records = self._records()  # tampering is noticed now, not when the training ends
        if (warning := diagnose(records, state.data, state.batch)) is not None:
            self.logger.warning(warning)

    def save(self, state: TrainingState, group: Group, *, is_best: bool = False) -> None:
        """Save the state as the newest checkpoint and, if asked, the best; all processes call."""
        state.means.gather(group.sum, keep=group.is_first)
        if self.folder is None:
            return
        keep = self.keep_checkpoints
        save_newest(state.state_dict(), self.folder, keep=keep, is_best=is_best)

    def save_averaged(self, state: TrainingState) -> None:
        """Save the averaged network, if there is one.

        Before the state is saved: a run that is killed in between repeats the epoch, and this.
        """
        if self.folder is not None and state.average is not None:
            save_checkpoint(state.averaged_network(), self.folder / AVERAGED)

    def _records(self) -> list[dict[str, Any]]:
        return [] if self.folder is None else read_records(self.folder, self._lines)

    def _draw_curves(self, records: list[dict[str, Any]]) -> None:
        if records:
            draw_curves(records, self.folder / "curves.png")

    def _write_board(self, record: dict[str, Any]) -> None:
        if self._make_board is None:
            return
        if self._board is None:
            threading.excepthook = self._thread_failed
            self._board = self._make_board(self.folder, purge_step=record["epoch"])
        for name, value in flattened(record):
            self._board.add_scalar(name, value, record["epoch"])
        self._board.flush()

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
