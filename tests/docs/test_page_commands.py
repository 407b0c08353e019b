"""Every command that these pages show is run, in little, in a folder with two runs."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from experiment.cifar import main as cifar
from experiment.dvs.recording.source import SOURCES
from tests.fault.micro_run import few_images
from tests.support.event_files import cifar10_dvs_events, write_archives
from tests.support.image_files import write_image_folder
from tests.support.recorded import record_of, write_run
from tests.support.trained_run import make_checkpoint

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("reading_a_run", "reproduce", "troubleshooting")
LINE = re.compile(r"^    (?:python|torchrun --nproc_per_node=\d+) (experiment/\S+\.py) (.*)$", re.M)
SHOWN = [
    (page, *found)
    for page in PAGES
    for found in LINE.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
]
MICRO = "--width 2 --T 1 --num_epoch 1 --num_workers 0 --device cpu"
IN_LITTLE = {  # what is said after the command's own flags
    "experiment/cifar/main.py": f"{MICRO} --dataset FakeData --train_batch_size 14",
    "experiment/imagenet/main.py": f"{MICRO} --arch resnet18 --image_size 32 --dummy 8 "
    "--train_batch_size 4",
    "experiment/dvs/main.py": f"{MICRO} --train_batch_size 18",
    "experiment/trained/look_inside.py": "--images 4 --gradient_images 2 --device cpu",
    "experiment/dvs/process.py": "--T 1 --num_workers 0",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data and two runs, from which the commands are given."""
    all_images = cifar.data_of
    monkeypatch.setattr(cifar, "data_of", lambda args: few_images(all_images(args)))
    monkeypatch.setitem(SOURCES, "CIFAR10_DVS", SOURCES["CIFAR10_DVS"]._replace(samples=60))
    monkeypatch.chdir(tmp_path)
    for name in ("FOLDER", "OTHER"):
        records = [record_of(epoch) for epoch in range(2)]
        flags = ["--dataset", "CIFAR100", "--num_epoch", "2"]
        write_run(tmp_path / "runs" / name, *flags, records=records)
    return tmp_path


@pytest.mark.parametrize(("page", "file", "flags"), SHOWN)
def test_a_command_that_is_shown_works(page, file, flags, place):
    words = [*shlex.split(flags, comments=True), *shlex.split(IN_LITTLE.get(file, ""))]
    if file.startswith("experiment/dvs"):
        write_archives(place / "data" / "CIFAR10_DVS" / "download", cifar10_dvs_events(6))
    if "best.pt" in flags:
        make_checkpoint(place / "runs" / "FOLDER", "--arch", "vgg11")
    if "--check_data" in words:
        write_image_folder(place / "data" / "imagenet", classes=2, train=2)
    import_module(file.removesuffix(".py").replace("/", ".")).main(words)


def test_the_pages_show_commands_and_name_files_that_exist():
    assert {page for page, _, _ in SHOWN} == set(PAGES)
    for page in PAGES:
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        shown = re.findall(r"^    .*?(experiment/\S+\.py)", text, re.M)
        assert len(shown) == sum(name == page for name, _, _ in SHOWN), page
        for name in re.findall(r"\]\((\w+\.md)", text):
            assert (DOCS / name).exists(), name
