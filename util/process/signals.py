"""Requests to stop: Ctrl-C, a scheduler's preemption notice, a closed terminal, kill.

The first signal only asks; the training loop looks at `StopRequest.requested` between two steps,
saves and leaves. The second signal is an order and raises KeyboardInterrupt wherever the program
is. Checkpoints are written atomically, so even then no file is torn.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

Result = TypeVar("Result")


class StopRequest:
    """Context manager that turns the stop signals into a request to stop.

    A SIGHUP that is ignored, as nohup asks for, stays ignored. Outside the main thread, which
    alone receives signals, the work is to be done through `shielding`.

    Attributes:
        requested: name of the first signal that came ("SIGTERM"), None before.
        heeds_signals: whether signals are received at all.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self.heeds_signals = threading.current_thread() is threading.main_thread()
        self._previous_handlers: dict[signal.Signals, object] = {}

    @property
    def exit_code(self) -> int:
        """128 + number of the signal, as a shell reports it; 0 while none came."""
        return 0 if self.requested is None else 128 + signal.Signals[self.requested]

    def take_over(self, exit_code: int) -> None:
        """Make the request of another process, whose `exit_code` is given, this one's too."""
        if self.requested is None:
            self.requested = signal.Signals(exit_code - 128).name

    def shielding(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises.

        Outside the main thread KeyboardInterrupt may be raised from elsewhere (by a notebook or a
        tuning library), between any two instructions of a step. There another thread does the
        work; this one only waits, and turns an interrupt into a request.
        """
        if self.heeds_signals:
            return work()
        outcome: Future[Result] = Future()
        threading.Thread(target=_settle, args=(outcome, work), daemon=True).start()
        while not outcome.done():
            try:
                wait([outcome], timeout=0.1)  # a thread that sleeps longer is not interrupted
            except KeyboardInterrupt:
                self.take_over(128 + signal.SIGINT)
        return outcome.result()

    def __enter__(self) -> "StopRequest":
        for number in STOP_SIGNALS if self.heeds_signals else ():
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous_handlers.items():
            # None stands for a handler that was not installed by Python and cannot be named.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous_handlers.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            raise KeyboardInterrupt(f"second signal: {signal.Signals(number).name}")
        self.requested = signal.Signals(number).name


def _settle(outcome: "Future[Result]", work: Callable[[], Result]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:
        outcome.set_exception(error)


@contextmanager
def stop_signals_held() -> Iterator[None]:
    """Hold signals back until the end of the block; in a process that begins in it, for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_stopping_to_parent(worker: int) -> None:
    """Let nobody but its parent end a data-loader worker (a `worker_init_fn`).

    A terminal and a scheduler signal the whole process group; a worker that obeyed them would take
    the step away that the main process wants to finish. So the worker holds all stop signals back.
    A parent that ends sends each of its processes one SIGTERM and then waits for them, for ever if
    need be: that one is obeyed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    parent = multiprocessing.parent_process().pid
    threading.Thread(target=_end_when_told_by, args=(parent,), daemon=True).start()


def _end_when_told_by(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)
