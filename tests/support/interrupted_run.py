"""Runs of the micro command that are interrupted in the middle and go on.

`Interruption` stands in for the end of the process; tests of real kills are in tests/fault.
"""

from __future__ import annotations

import pytest

from experiment.train.update import Update
from tests.fault import micro_run
from tests.fault.micro_run import ending
from tests.support.finished_run import command, folder_in


class Interruption(Exception):
    """The end of the process."""


def interrupted_run(log_path, target, name, function, *more):
    """A run that ends in `function`, which stands in for target.name; returns its folder."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interruption):
        patch.setattr(target, name, function)
        micro_run.main(command(log_path, *more))
    return folder_in(log_path)


def interruption_of(which):
    """Stands in for `Update.__call__`: ends the run in a step, before anything of it is saved."""
    update, steps = Update.__call__, iter(range(1000))

    def interrupt(*args):
        if next(steps) == which:
            raise Interruption
        return update(*args)

    return interrupt


def stop_after(steps, update=Update.__call__):
    numbers = iter(range(1000))

    def stop(*args, **options):
        if next(numbers) == steps:
            raise Interruption
        return update(*args, **options)

    return stop


def alone(path, *more):
    """The command that names a checkpoint and nothing that the files of its run say."""
    return ending(["--resume", str(path), *more])
