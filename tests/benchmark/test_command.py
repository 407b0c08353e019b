"""What a user can cause ends a command with one sentence; mistakes of the program do not."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import compare, cost, faults, gpu, profile, restarts, scaling, sparsity, step
from benchmark import input as benchmark_input
from benchmark.command import Parser, run
from experiment.failure import RunFailed

ROOT = Path(__file__).parents[2]
COMMANDS = (compare, cost, faults, gpu, benchmark_input, profile, restarts, scaling, sparsity, step)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("width is 0:\nexpected more"), 2, "error: width is 0: expected more\n"),
        (FileNotFoundError(2, "not there", "a/b"), 2, "error: a/b: not there\n"),
        (
            MemoryError(),
            2,
            "error: CPU out of memory: try a smaller batch, fewer time steps or a "
            "smaller network\n",
        ),
        (RunFailed("it was too fast"), 1, "error: it was too fast\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_what_a_user_can_cause_is_one_sentence(error, code, sentence, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert (stop.value.code, capsys.readouterr().err) == (code, sentence)


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, KeyError])
def test_a_mistake_of_the_program_is_not_hidden(error):
    def main():
        raise error("unexpected")

    with pytest.raises(error):
        run(main)


def test_gpu_py_needs_no_package_beside_torch():
    """On a machine with a GPU and PyTorch alone."""
    program = (
        "import sys; sys.modules |= dict.fromkeys(('spikingjelly', 'progress', 'sklearn')); "
        "import benchmark.gpu"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_main_returns_is_handed_on():
    assert run(lambda: 3) == 3


def test_flags_have_their_whole_names(capsys):
    parser = Parser("A command.")
    parser.add_argument("--repeats")
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--rep", "3"])
    assert stop.value.code == 2
    assert "unrecognized arguments: --rep 3" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_flag_says_what_it_is(command):
    parser = command.get_parser()
    assert all(action.help for action in parser.flags().values())
    assert command.__doc__ in parser.format_help()
