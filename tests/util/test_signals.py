"""The first signal asks, the second orders; workers leave the decision to their parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from util.signals import STOP_SIGNALS, StopRequest, leave_stopping_to_parent

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_signal_sets_a_request(number):
    with StopRequest() as stop:
        assert stop.requested is None
        assert stop.exit_code == 0
        signal.raise_signal(number)
        assert stop.requested == number.name
        assert stop.exit_code == {"SIGINT": 130, "SIGUSR1": 138, "SIGTERM": 143}[number.name]


@pytest.mark.parametrize("second", STOP_SIGNALS)
def test_the_second_signal_interrupts_at_once(second):
    with pytest.raises(KeyboardInterrupt, match=second.name), StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(second)
        raise AssertionError("not reached")
    assert stop.requested == "SIGTERM"
    assert stop.exit_code == 143


def test_handlers_are_restored_after_success_and_after_an_error():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopRequest():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    with pytest.raises(RuntimeError), StopRequest():
        raise RuntimeError
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_other_threads_are_refused():
    refusals = []

    def enter():
        try:
            StopRequest().__enter__()
        except ValueError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert "main thread" in refusals[0]


PROGRAM = """
import sys, time
from util.signals import StopRequest

with StopRequest() as stop:
    print("ready", flush=True)
    while stop.requested is None:
        time.sleep(0.01)  # a training step
print("saved after", stop.requested, flush=True)
sys.exit(stop.exit_code)
"""


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signalled_program_saves_and_says_so_in_its_exit_code(number):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout.readline() == "ready\n"
    program.send_signal(number)
    output, _ = program.communicate(timeout=20)
    assert output == f"saved after {number.name}\n"
    assert program.returncode == 128 + number


class SlowNumbers(Dataset):
    """Items are (index, process id of the worker)."""

    def __len__(self):
        return 30

    def __getitem__(self, index):
        time.sleep(0.02)
        return index, os.getpid()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_workers_outlive_a_signal_to_the_whole_group(number):
    loader = DataLoader(SlowNumbers(), num_workers=2, worker_init_fn=leave_stopping_to_parent)
    seen = []
    with StopRequest() as stop:
        for index, worker in loader:
            seen.append(int(index))
            if len(seen) in (3, 4):  # a batch of each worker, which therefore has its handlers
                os.kill(int(worker), number)
            if len(seen) == 3:
                signal.raise_signal(number)
    assert seen == list(range(30))
    assert stop.requested == number.name


def test_a_second_sigterm_ends_a_worker():
    child = os.fork()
    if child == 0:
        try:
            leave_stopping_to_parent(0)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        finally:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_protection_a_worker_does_die():
    """The proof that the test of the workers could fail."""
    with pytest.raises(RuntimeError, match="worker"):
        for _, worker in DataLoader(SlowNumbers(), num_workers=1):
            os.kill(int(worker), signal.SIGTERM)
            torch.manual_seed(0)


def test_a_request_is_taken_over_from_another_process():
    with StopRequest() as stop:
        stop.take_over(128 + signal.SIGTERM)
        assert (stop.requested, stop.exit_code) == ("SIGTERM", 143)
        stop.take_over(128 + signal.SIGUSR1)
        assert stop.requested == "SIGTERM"  # the first is what counts
