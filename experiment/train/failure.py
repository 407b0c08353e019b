"""How a run ends when it cannot go on: one sentence, an exit code, no traceback.

0              finished
1              a run that had begun failed: disk full, folder gone, no memory, non-finite loss
2              wrong arguments, data or checkpoint, a missing package; nothing has begun, no folder
               is left
128 + signal   asked to stop, everything saved (143 SIGTERM, 130 SIGINT, 138 SIGUSR1, 129 SIGHUP)
130            stopped at once by a second signal; the newest checkpoint is whole
"""

from __future__ import annotations

import logging
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch

from experiment.packages import missing_package
from util.process.console import lost_output
from util.process.distributed import ProcessesLost
from util.process.signals import StopRequest

USER_ERRORS = (ValueError, OSError, RuntimeError, MemoryError, ImportError)

SHARED_MEMORY = Path("/dev/shm")
# Why no process that loads data can be started where that is full, not there or read-only.
NO_SHARED_MEMORY = "No space|No such file|Read-only|Permission denied"

# What these sentences say of a training; commands that train nothing have their own words.
LESS_MEMORY = "try smaller ones, a smaller --width or --T, --amp bf16, or on a GPU --no-cuda_graph"
INTERRUPTED = "stopped at once; the newest checkpoint, if there is one, is whole"


class Stopped(Exception):
    """Training was asked to stop and has saved its state."""

    def __init__(self, request: StopRequest, place: str):
        super().__init__(
            f"stopped by {request.requested} at {place}; all is saved, the same command with "
            "--resume auto goes on from there"
        )
        self.exit_code = request.exit_code


class NonFiniteError(ArithmeticError):
    """A loss or gradient that is no number; the weights are as they were before it.

    step: the number, in its epoch, of the training step that computed it; None: an evaluation did.
    """

    def __init__(self, sentence: str, *, step: int | None = None):
        super().__init__(sentence)
        self.step = step


class RunFailed(Exception):
    """A run that had begun cannot go on; the message is one sentence."""


@contextmanager
def one_sentence_errors(
    batch_sizes: dict[str, int], *, less_memory: str = LESS_MEMORY, interrupted: str = INTERRUPTED
) -> Iterator[None]:
    """What users can cause ends the program with one sentence and one of the codes above.

    batch_sizes: flags and values that decide how much memory is taken; less_memory: how to take
    less; interrupted: what is left after Ctrl-C.
    """
    try:
        yield
    except Stopped as stop:
        leave(str(stop), stop.exit_code)
    except KeyboardInterrupt:
        leave(interrupted, 130)
    except RunFailed as error:
        leave(f"error: {error}", 1)
    except ProcessesLost as error:
        print(f"error: {error}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # nothing is taken down, as `ProcessesLost` asks for
    except USER_ERRORS as error:
        sentence = sentence_of(error, batch_sizes, less_memory)
        if sentence is None:
            raise
        leave(f"error: {sentence}", 2)


@contextmanager
def failures_of_a_run(batch_sizes: dict[str, int]) -> Iterator[None]:
    """What goes wrong in here is no longer the command's fault: RunFailed, exit code 1."""
    try:
        yield
    except NonFiniteError as error:
        raise RunFailed(str(error)) from error
    except USER_ERRORS as error:
        sentence = sentence_of(error, batch_sizes)
        if sentence is None:
            raise
        raise RunFailed(sentence) from error


@contextmanager
def noted_in(logger: logging.Logger) -> Iterator[None]:
    """Why a run ended, written to the log file too: `leave` prints it, but keeps no record."""
    try:
        yield
    except (Stopped, RunFailed) as error:
        record = logger.makeRecord(logger.name, logging.ERROR, "", 0, str(error), (), None)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)
        raise


def refuse_lost_output() -> None:
    """RunFailed if not all that was printed is written: for commands whose prints are the product.

    Nothing is lost on a reader that has left by itself, as `head` does.
    """
    reason = lost_output()
    if reason is not None:
        raise RunFailed(f"standard output is not whole: {reason.strerror}")


def leave(sentence: str, exit_code: int) -> NoReturn:
    """End the program with the sentence on stderr."""
    print(sentence, file=sys.stderr)
    raise SystemExit(exit_code) from None


def sentence_of(
    error: BaseException, batch_sizes: dict[str, int], less_memory: str = LESS_MEMORY
) -> str | None:
    """An error in one sentence; None if it is a mistake of this program, not of its user."""
    message = str(error)
    refused = isinstance(error, RuntimeError) and "can't allocate memory" in message
    if refused or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return out_of_memory(message, batch_sizes, less_memory)
    if isinstance(error, ImportError):
        return missing_package(error)
    if re.search("Too many open files|ancdata", message):
        # Each batch on its way from a process that loads data is an open file or two.
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        advice = "raise the limit with ulimit -n, or try fewer --num_workers"
        return f"too many open files ({limit} are allowed): {advice}"
    if re.search(f"</torch_|Bus error|cannot be started: ({NO_SHARED_MEMORY})", message):
        return no_shared_memory()
    if isinstance(error, RuntimeError):
        # Torch says so when the system kills a process that loads data.
        end = re.search(r"DataLoader worker.*(exited unexpectedly|by signal: \w+)", message)
        if end is None:
            return None
        return (
            f"a process that loads data was ended ({end[1]}): it may have run out of memory, try "
            "fewer --num_workers"
        )
    if "Original Traceback" in message:  # raised in a process that loads data
        message = message_in_traceback(message)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(message.split())


def message_in_traceback(text: str) -> str:
    """The message of the error that a traceback ends with, or the error's name if it has none."""
    after_last_call = text.rstrip().rpartition('\n  File "')[2]
    error = re.search(r"\n(\w[\w.]*)(?:: (.*))?\Z", after_last_call, re.DOTALL)
    return text if error is None else error[2] or error[1]


def out_of_memory(message: str, batch_sizes: dict[str, int], less_memory: str) -> str:
    """What was asked for, at which batch size, and what to try."""
    amount = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", message)
    device = "CUDA" if "CUDA" in message else "CPU"
    flags = ", ".join(f"--{name} {value}" for name, value in batch_sizes.items())
    given = f" with {flags}" if flags else ""
    asked = f" (asked for {amount[1]} more)" if amount else ""
    return f"{device} out of memory{asked}{given}: {less_memory}"


def no_shared_memory() -> str:
    """Batches on their way from processes that load data lie in shared memory."""
    size = f", {shutil.disk_usage(SHARED_MEMORY).total >> 20} MiB" if SHARED_MEMORY.exists() else ""
    return (
        f"no room for batches in shared memory ({SHARED_MEMORY}{size}): give a container more of "
        "it (docker run --shm-size=8g), or load in the training process (--num_workers 0)"
    )
