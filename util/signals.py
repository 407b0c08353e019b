"""Requests to stop: Ctrl-C, a scheduler's preemption notice, kill.

The first signal only asks; the training loop looks at `StopRequest.requested` between two steps,
saves and leaves. The second signal is an order and raises KeyboardInterrupt wherever the program
is. Checkpoints are written atomically, so even then no file is torn.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Context manager that turns SIGINT, SIGTERM and SIGUSR1 into a request to stop.

    Attributes:
        requested: name of the first signal that came ("SIGTERM"), None before.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous_handlers: dict[signal.Signals, object] = {}

    @property
    def exit_code(self) -> int:
        """128 + number of the signal, as a shell reports it; 0 while none came."""
        return 0 if self.requested is None else 128 + signal.Signals[self.requested]

    def take_over(self, exit_code: int) -> None:
        """Make the request of another process, whose `exit_code` is given, this one's too."""
        if self.requested is None:
            self.requested = signal.Signals(exit_code - 128).name

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is not threading.main_thread():
            raise ValueError("signals reach the main thread only; enter StopRequest there")
        for number in STOP_SIGNALS:
            self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous_handlers.items():
            # None stands for a handler that was not installed by Python and cannot be named.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous_handlers.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise KeyboardInterrupt(f"second signal: {signal.Signals(number).name}")
        self.requested = signal.Signals(number).name


@contextmanager
def stop_signals_held() -> Iterator[None]:
    """Hold signals back until the end of the block; in a process that begins in it, until
    `leave_stopping_to_parent`, since it could not answer them before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_stopping_to_parent(worker: int) -> None:
    """Keep a data-loader worker alive until its parent ends it (a `worker_init_fn`).

    A terminal and a scheduler signal the whole process group; a worker that obeyed at once would
    take the step away that the main process wants to finish. SIGINT and SIGUSR1 are ignored. The
    first SIGTERM is too, the second ends the worker, because SIGTERM is also the way a parent
    removes a worker that does not leave by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_at_next_sigterm)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _end_at_next_sigterm(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, _end_worker)


def _end_worker(number: int, frame: FrameType | None) -> None:
    os._exit(0)
