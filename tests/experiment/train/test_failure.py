"""Every way to end has its exit code and its sentence; mistakes of the program stay visible."""

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from experiment.imagenet import main as imagenet
from experiment.train.failure import (
    NonFiniteError,
    RunFailed,
    Stopped,
    failures_of_a_run,
    noted_in,
    one_sentence_errors,
)
from tests.support.image_files import write_image_folder
from tests.support.trained_run import make_checkpoint
from util.process.signals import StopRequest
from util.util import setup_logging

ROOT = Path(__file__).parents[3]
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


WRITING = OSError(errno.ENOSPC, "No space left on device", "runs/x/last.pt")
STOPS = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 138, "SIGHUP": 129}


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        *(
            (stopped_by(name), code, f"stopped by {name} at epoch 3")
            for name, code in STOPS.items()
        ),
        (stopped_by("SIGTERM"), 143, "all is saved, the same command with --resume auto"),
        (KeyboardInterrupt(), 130, "stopped at once"),
        (NonFiniteError("epoch 0, step 2: ..."), 1, "error: epoch 0, step 2: ...\n"),
        (ValueError("T must be\n  at least 1"), 1, "error: T must be at least 1\n"),
        (FileNotFoundError("CIFAR10 is not in data"), 1, "error: CIFAR10 is not in data\n"),
        (WRITING, 1, "error: runs/x/last.pt: No space left on device\n"),
    ],
)
def test_every_end_of_a_run_has_its_code_and_sentence(capsys, error, code, said):
    ended, sentence = end_of(capsys, error, during_run=True)
    assert ended == code and said in sentence
    if isinstance(error, ValueError | OSError):
        assert end_of(capsys, error) == (2, said), "before it began it is the command's fault"


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
    def __init__(self, message):
        self.message = message

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise ValueError(self.message)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("frame 0.npz is damaged: delete it", "frame 0.npz is damaged: delete it"),
        ("2 damaged:\n  a.npz\nb.npz", "2 damaged: a.npz b.npz"),
        ("", "ValueError"),
    ],
)
def test_errors_of_loading_processes_lose_their_traceback(capsys, message, sentence):
    with pytest.raises(ValueError) as failure:
        list(DataLoader(Broken(message), num_workers=1))
    assert "Traceback" in str(failure.value)
    assert end_of(capsys, failure.value)[1] == f"error: {sentence}\n"


# What torch says where processes that load data may not have more, and what is advised.
EXHAUSTED = """
Original Traceback ... unable to allocate shared memory(shm) for file </torch_66_0> | --shm-size
unable to write to file </torch_19_2_0>: No space left on device (28)              | --num_workers 0
DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that     | /dev/shm
received 0 items of ancdata                                                        | ulimit -n
Too many open files. Communication with the workers is no longer possible.         | ulimit -n
unable to open shared memory object </torch_67_72_2>: Too many open files (24)     | ulimit -n
DataLoader worker (pid 71) is killed by signal: Killed.                    | fewer --num_workers
DataLoader worker (pid(s) 7, 8) exited unexpectedly                        | exited unexpectedly
"""


@pytest.mark.parametrize("row", EXHAUSTED.strip().splitlines())
def test_exhausted_means_of_loading_processes_are_named(capsys, row):
    message, words = (part.strip() for part in row.split(" | "))
    code, sentence = end_of(capsys, RuntimeError(message), during_run=True)
    assert code == 1 and words in sentence


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "/dev/shm"),
        (errno.ENOENT, "/dev/shm"),
        (errno.EROFS, "/dev/shm"),
        (errno.EACCES, "/dev/shm"),
        (errno.EAGAIN, "cannot be started: Resource temporarily"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_loading_processes_that_cannot_be_started_say_why(capsys, number, words):
    reason = f"the processes that load data cannot be started: {os.strerror(number)}; try"
    assert words in end_of(capsys, OSError(reason))[1]


SMALL = (
    "--arch resnet18 --width 2 --T 2 --image_size 32 --train_batch_size 4 --val_batch_size 4 "
    "--num_epoch 1"
)


@pytest.mark.slow
def test_every_command_names_the_bad_image_that_a_loading_process_met(tmp_path):
    torn = write_image_folder(tmp_path / "torn", classes=4, train=4, val=4)
    checkpoint = make_checkpoint(tmp_path, "--data_path", str(torn), experiment=imagenet)
    for part in ("train", "val"):
        picture = torn / part / "class_02" / "1.JPEG"
        picture.write_bytes(picture.read_bytes()[:300])
    main, runs = f"experiment/imagenet/main.py {SMALL}", f"--log_path {tmp_path}"
    trained = f"{checkpoint} --data_path {torn} --batch_size 4"
    commands = {  # and the exit code of each
        f"{main} {runs} --data_path {torn}": 1,
        f"{main} {runs} --data_path {torn} --evaluate {checkpoint}": 2,
        f"experiment/trained/evaluate.py {trained}": 2,
        f"experiment/trained/export.py {trained}": 2,
    }
    options = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True, "cwd": ROOT}
    options["env"] = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = []
    for text in commands:
        argv = [*shlex.split(text), "--device", "cpu", "--num_workers", "2"]
        running.append(subprocess.Popen([sys.executable, "-W", "ignore", *argv], **options))
    try:
        for process, code in zip(running, commands.values(), strict=True):
            _, said = process.communicate(timeout=240)
            assert process.returncode == code and "class_02/1.JPEG" in said, (process.args, said)
            assert "Traceback" not in said and said.count("error: ") == 1, (process.args, said)
    finally:
        for process in running:
            process.kill()


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
