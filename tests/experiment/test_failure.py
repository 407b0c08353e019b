"""Every way to end has its exit code and its sentence; mistakes of the program stay visible."""

import errno
import signal

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from experiment.failure import (
    NonFiniteError,
    RunFailed,
    Stopped,
    failures_of_a_run,
    noted_in,
    one_sentence_errors,
)
from util.signals import StopRequest
from util.util import setup_logging

SIZES = {"train_batch_size": 128, "val_batch_size": 64}


def end_of(capsys, error, *, during_run=False):
    with pytest.raises(SystemExit) as end, one_sentence_errors(SIZES):
        if during_run:
            with failures_of_a_run(SIZES):
                raise error
        raise error
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    return end.value.code, printed.err


def stopped_by(name):
    request = StopRequest()
    request.requested = name
    return Stopped(request, "epoch 3, step 7")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_stopped_run_says_so_in_its_exit_code(capsys, name):
    code, sentence = end_of(capsys, stopped_by(name))
    assert code == 128 + signal.Signals[name]
    assert f"stopped by {name} at epoch 3, step 7" in sentence
    assert "--resume auto" in sentence


def test_a_second_signal(capsys):
    assert end_of(capsys, KeyboardInterrupt())[0] == 130


WRITING = OSError(errno.ENOSPC, "No space left on device", "runs/x/last.pt")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("T must be\n  at least 1"), "T must be at least 1"),
        (FileNotFoundError("CIFAR10 is not in data"), "CIFAR10 is not in data"),
        (WRITING, "runs/x/last.pt: No space left on device"),
    ],
)
@pytest.mark.parametrize("during_run", [False, True])
def test_errors_of_users_are_one_sentence(capsys, error, sentence, during_run):
    code, printed = end_of(capsys, error, during_run=during_run)
    assert printed == f"error: {sentence}\n"
    assert code == (1 if during_run else 2)


def test_a_non_finite_loss_fails_the_run(capsys):
    code, printed = end_of(capsys, NonFiniteError("epoch 0, step 2: ..."), during_run=True)
    assert (code, printed) == (1, "error: epoch 0, step 2: ...\n")


CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB"
)
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 26388279066624 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "device", "amount"),
    [(CUDA, "CUDA", "2.50 GiB"), (CPU, "CPU", "26388279066624 bytes"), (MemoryError(), "CPU", "")],
)
def test_out_of_memory_names_the_batch_sizes_and_what_to_try(capsys, error, device, amount):
    code, sentence = end_of(capsys, error, during_run=True)
    assert code == 1
    assert sentence.startswith(f"error: {device} out of memory")
    for part in (amount, "--train_batch_size 128", "--val_batch_size 64", "--amp bf16"):
        assert part in sentence


def test_the_message_of_a_real_failed_allocation_is_recognised(capsys):
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**52)
    assert "CPU out of memory" in end_of(capsys, failure.value)[1]


class Broken(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise ValueError(f"frame {index}.npz is damaged: delete it")


def test_errors_of_loading_processes_lose_their_traceback(capsys):
    with pytest.raises(ValueError) as failure:
        list(DataLoader(Broken(), num_workers=1))
    assert "Traceback" in str(failure.value)
    assert end_of(capsys, failure.value)[1] == "error: frame 0.npz is damaged: delete it\n"


def test_a_killed_loading_process_is_explained(capsys):
    error = RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. ")
    assert "fewer --num_workers" in end_of(capsys, error, during_run=True)[1]
    error = RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")
    assert "exited unexpectedly" in end_of(capsys, error)[1]


@pytest.mark.parametrize("error", [RuntimeError("a shape is wrong"), TypeError("x"), KeyError(1)])
@pytest.mark.parametrize("during_run", [False, True])
def test_mistakes_of_the_program_keep_their_traceback(error, during_run):
    with pytest.raises(type(error)), one_sentence_errors(SIZES):
        if during_run:
            with failures_of_a_run(SIZES):
                raise error
        raise error


def test_the_reason_is_in_the_log_file_too(tmp_path, capsys):
    logger = setup_logging(tmp_path)
    with pytest.raises(RunFailed), noted_in(logger), failures_of_a_run(SIZES):
        raise WRITING
    setup_logging(None)
    assert "ERROR runs/x/last.pt: No space left" in (tmp_path / "train.log").read_text()
    assert capsys.readouterr().out == ""  # `leave` prints it
