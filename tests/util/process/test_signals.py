"""The first signal asks, the second orders; workers leave the decision to their parent."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from contextlib import nullcontext

import pytest

from util.process.signals import STOP_SIGNALS, StopRequest, leave_stopping_to_parent


@pytest.fixture(autouse=True)
def heeds_hangups():
    """A program under nohup has been started with them ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def tell(process: int, number: signal.Signals) -> None:
    """Send a signal that does not come from this process."""
    subprocess.run(["kill", f"-{number.value}", str(process)], check=True)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_is_a_request_that_the_exit_code_tells(number):
    with StopRequest() as stop:
        tell(os.getpid(), number)
    assert (stop.requested, stop.exit_code) == (number.name, 128 + number)


@pytest.mark.parametrize("second", STOP_SIGNALS)
def test_the_second_signal_interrupts_at_once(second):
    with pytest.raises(KeyboardInterrupt, match=second.name), StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(second)
        raise AssertionError("not reached")
    assert stop.requested == "SIGTERM"
    assert stop.exit_code == 143


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_handlers_are_restored_after_success_and_after_an_error(error):
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(error) if error else nullcontext(), StopRequest() as stop:
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
        assert (stop.requested, stop.exit_code) == (None, 0)
        if error:
            raise error
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_an_ignored_hangup_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.requested is None
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def in_thread(work, *, interrupted=False):
    """What `work` returns in a thread; optionally with interrupts in the middle of it."""
    box = []
    thread = threading.Thread(target=lambda: box.append(work()))
    thread.start()
    for _ in range(2 * interrupted):
        time.sleep(0.2)
        interrupt = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), interrupt)
    thread.join(60)
    (result,) = box
    return result


def test_in_other_threads_an_interrupt_is_a_request_and_work_goes_on():
    def steps():
        with StopRequest() as stop:
            assert not stop.heeds_signals

            def work():
                begun = time.monotonic()
                while time.monotonic() < begun + 1:
                    pass  # a step, in any instruction of which an interrupt could be raised
                return stop.requested

            return stop.shielding(work), stop.exit_code

    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    assert in_thread(steps, interrupted=True) == ("SIGINT", 130)
    assert in_thread(steps) == (None, 0)
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_errors_of_the_work_come_out_of_the_shield(error):
    def fail():
        raise error

    def outcome():
        try:
            StopRequest().shielding(fail)
        except BaseException as caught:
            return caught

    assert outcome() is error
    assert in_thread(outcome) is error


def heed_only_the_parent(ready):
    leave_stopping_to_parent(0)
    ready.set()
    time.sleep(60)


def test_a_worker_ends_with_the_first_sigterm_of_its_parent():
    """Its parent sends no second one before it waits for it."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=heed_only_the_parent, args=(ready,))
    worker.start()
    ready.wait()
    for number in STOP_SIGNALS:
        tell(worker.pid, number)
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == 0


def test_a_request_is_taken_over_from_another_process():
    with StopRequest() as stop:
        stop.take_over(128 + signal.SIGTERM)
        assert (stop.requested, stop.exit_code) == ("SIGTERM", 143)
        stop.take_over(128 + signal.SIGUSR1)
        assert stop.requested == "SIGTERM"  # the first is what counts
