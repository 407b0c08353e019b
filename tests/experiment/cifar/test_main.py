"""experiment.cifar.main: its own flags at work."""

import json

import pytest

from benchmark.fault import micro_run
from benchmark.fault.damage import ending
from experiment import engine
from experiment.cifar.config.config import get_parser
from experiment.cifar.main import data_of
from util.batch_augment import KeyedDataset

GPU_AUG = (*micro_run.ARGUMENTS, "--num_epoch", "2", "--auto_aug", "--cutout", "--gpu_aug")


class Interruption(Exception):
    """The end of the process, as far as the run can tell."""


def interrupt_after(monkeypatch, which):
    step, steps = engine.refuse_non_finite, iter(range(1000))

    def interrupted(*args):
        if next(steps) == which:
            raise Interruption
        return step(*args)

    monkeypatch.setattr(engine, "refuse_non_finite", interrupted)


def run_folder(log_path):
    (folder,) = micro_run.run_folders(log_path)
    return folder


@pytest.fixture(scope="module")
def augmented(tmp_path_factory):
    """Folder of a finished run with --gpu_aug."""
    log_path = tmp_path_factory.mktemp("augmented")
    micro_run.main([*GPU_AUG, "--log_path", str(log_path)])
    return run_folder(log_path)


def test_gpu_aug_trains_on_batches_of_the_same_recipe():
    args = get_parser().parse_args(["--dataset", "FakeData", "--cutout", "--gpu_aug"])
    data = data_of(args)
    assert isinstance(data.train, KeyedDataset)
    assert (data.augmentation.auto_aug, data.augmentation.cutout) == (False, True)
    assert (data.augmentation.seed, data.augmentation.padding, data.augmentation.flip) == (
        60, 4, True
    )  # fmt: skip
    assert data_of(get_parser().parse_args(["--dataset", "FakeData"])).augmentation is None


@pytest.mark.parametrize(("which", "workers"), [(3, "0"), (6, "2")])
def test_gpu_aug_interrupted_in_an_epoch_and_resumed_equals_unbroken(
    which, workers, augmented, tmp_path, monkeypatch
):
    interrupt_after(monkeypatch, which)
    with pytest.raises(Interruption):
        micro_run.main([*GPU_AUG, "--log_path", str(tmp_path)])
    monkeypatch.undo()
    more = ("--log_path", str(tmp_path), "--resume", "auto", "--num_workers", workers)
    micro_run.main([*GPU_AUG, *more])
    assert micro_run.outcome(run_folder(tmp_path)) == micro_run.outcome(augmented)


def test_gpu_aug_is_part_of_what_a_run_is(augmented, tmp_path):
    config = json.loads((augmented / "config.json").read_text())
    assert config["identity"]["gpu_aug"] is True
    micro_run.main([*GPU_AUG, "--no-gpu_aug", "--log_path", str(tmp_path)])
    other = run_folder(tmp_path)
    assert micro_run.outcome(other)["last.pt"] != micro_run.outcome(augmented)["last.pt"]


def test_gpu_aug_has_no_effect_on_an_evaluation_and_says_so(augmented, tmp_path):
    arguments = [*GPU_AUG, "--log_path", str(tmp_path), "--evaluate", str(augmented / "last.pt")]
    code, printed = ending(arguments)
    assert code == 0
    assert "warning: no effect of" in printed and "--gpu_aug" in printed
