"""Every way to end has its exit code and its sentence; mistakes of the program stay visible."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

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
from experiment.imagenet import main as imagenet
from tests.support.image_files import write_image_folder
from tests.support.trained_run import make_checkpoint
from util.signals import StopRequest
from util.util import setup_logging

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"])
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


def test_a_killed_loading_process_is_explained(capsys):
    error = RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. ")
    assert "fewer --num_workers" in end_of(capsys, error, during_run=True)[1]
    error = RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly")
    assert "exited unexpectedly" in end_of(capsys, error)[1]


SENT = "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback ...\nRuntimeError: "


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError(f"{SENT}unable to allocate shared memory(shm) for file </torch_66_35_0>: "
                      "Resource temporarily unavailable (11)"), "--shm-size"),
        (RuntimeError("unable to write to file </torch_19_2_0>: No space left on device (28)"),
         "--num_workers 0"),
        (RuntimeError("DataLoader worker (pid 71) is killed by signal: Bus error. It is possible "
                      "that dataloader's workers are out of shared memory. "), "/dev/shm"),
        *((OSError(f"the processes that load data cannot be started: {os.strerror(number)}; try"),
           "/dev/shm") for number in (errno.ENOSPC, errno.ENOENT, errno.EROFS, errno.EACCES)),
        (OSError(f"the processes that load data cannot be started: {os.strerror(errno.EAGAIN)}"),
         "cannot be started: Resource temporarily"),
        (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
        (RuntimeError("Too many open files. Communication with the workers is no longer"
                      " possible."), "ulimit -n"),
        (OSError(errno.EMFILE, "Too many open files", "a/1.jpg"), "ulimit -n"),
        (RuntimeError(f"{SENT}unable to open shared memory object </torch_67_72_2> in read-write "
                      "mode: Too many open files (24)"), "ulimit -n"),
    ],
)  # fmt: skip
def test_exhausted_means_of_loading_processes_are_named(capsys, error, words):
    code, sentence = end_of(capsys, error, during_run=True)
    assert code == 1 and words in sentence


LOAD = """
import resource, sys, torch
from contextlib import suppress
from torch.utils.data import Dataset
from experiment.failure import failures_of_a_run, one_sentence_errors
from util.loader import make_loader

class Images(Dataset):
    def __getitem__(self, index):
        return torch.zeros(3, 64, 64, dtype=torch.uint8), index

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
for batch, files in zip(*[map(int, sys.argv[1:])] * 2):
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    with suppress(SystemExit), one_sentence_errors({}), failures_of_a_run({}):
        kept = list(make_loader(Images(), batch_size=batch, sampler=range(64 * batch),
                                num_workers=2, device="cpu"))
    kept = None
sys.exit(3)
"""
SMALL_SHARED_MEMORY = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
                       'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh")  # fmt: skip


def test_too_few_open_files_and_too_little_shared_memory_end_a_program_with_a_sentence():
    """Batches that are too many for one MiB together, and a batch that is too big by itself."""
    small = subprocess.run([*SMALL_SHARED_MEMORY, "true"], check=False).returncode == 0
    batches, wrapped = (("1", "100"), SMALL_SHARED_MEMORY) if small else ((), ())
    tries = [word for batch in batches for word in (batch, "1000")] + ["2", "40"]
    result = subprocess.run(
        [*wrapped, sys.executable, "-W", "ignore", "-c", LOAD, *tries], cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    said = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 3 and len(said) == len(tries) / 2, result.stderr
    assert "too many open files (40 are allowed)" in said[-1]
    assert all("no room for batches in shared memory (/dev/shm, 1 MiB)" in line
               for line in said[:-1])  # fmt: skip


MISTAKE = """
import sys
from experiment import engine
from experiment.imagenet.main import main

def fail(*arguments):
    raise {error}

engine.refuse_non_finite = fail
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_every_command_ends_whatever_fails_while_processes_load_data(tmp_path):
    torn = write_image_folder(tmp_path / "torn", classes=4, train=4, val=4)
    whole = write_image_folder(tmp_path / "whole", classes=4, train=4, val=4)
    checkpoint = make_checkpoint(tmp_path, "--data_path", str(torn), experiment=imagenet)
    for part in ("train", "val"):
        picture = torn / part / "class_02" / "1.JPEG"
        picture.write_bytes(picture.read_bytes()[:300])
    small = ["--arch", "resnet18", "--width", "2", "--T", "2", "--image_size", "32"]
    more = [*small, "--train_batch_size", "4", "--val_batch_size", "4", "--num_epoch", "1",
            "--device", "cpu", "--log_path", str(tmp_path)]  # fmt: skip
    main, trained = "experiment/imagenet/main.py", "experiment/trained/"
    data = ["--data_path", str(torn)]
    of_trained = [str(checkpoint), *data, "--device", "cpu", "--batch_size", "4"]
    commands = {
        "training": ([main, *more, *data], 1, "class_02/1.JPEG"),
        "--evaluate": ([main, *more, *data, "--evaluate", str(checkpoint)], 2, "class_02/1.JPEG"),
        "evaluate.py": ([f"{trained}evaluate.py", *of_trained], 2, "class_02/1.JPEG"),
        "export.py": ([f"{trained}export.py", *of_trained], 2, "class_02/1.JPEG"),
    }
    for error, code, words in (
        ("TypeError('a mistake')", 1, "Traceback"),
        ("KeyboardInterrupt", 130, "stopped at once"),
    ):
        program = ["-c", MISTAKE.format(error=error), *more, "--data_path", str(whole)]
        commands[error] = (program, code, words)
    running = {
        name: subprocess.Popen(
            [sys.executable, "-W", "ignore", *argv, "--num_workers", "2"], cwd=ROOT, text=True,
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for name, (argv, _, _) in commands.items()
    }  # fmt: skip
    try:
        for name, process in running.items():
            _, said = process.communicate(timeout=240)
            _, code, words = commands[name]
            assert process.returncode == code and words in said, (name, said)
            assert ("Traceback" in said) == (words == "Traceback"), (name, said)
    finally:
        for process in running.values():
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
