"""What the commands share: how much of the test set, whose files in the folder, how they end."""

import pytest

from experiment.trained import energy, evaluate, export, look_inside
from experiment.trained.command import (
    command,
    make_room,
    products_in,
    results_folder,
    sample_count,
)


def test_a_default_is_at_most_all_and_a_number_that_is_asked_for_stays():
    assert sample_count(None, 64, range(20)) == 20
    assert sample_count(None, 64, range(100)) == 64
    assert sample_count(30, 64, range(20)) == 30  # which `first_samples` refuses by name


def test_products_of_an_earlier_call_are_removed_and_nothing_else(tmp_path):
    products = ("a.png", "log.*.ours")
    for name in ("a.png", "log.1.ours", "log.1.theirs", "b.png"):
        (tmp_path / name).touch()
    make_room(results_folder(tmp_path, tmp_path / "best.pt", "x"), products)
    assert {path.name for path in tmp_path.iterdir()} == {"log.1.theirs", "b.png"}
    for name in ("log.2.ours", "a.png"):
        (tmp_path / name).touch()
    assert [p.name for p in products_in(tmp_path, products)] == ["a.png", "log.2.ours"]


@pytest.mark.parametrize("module", [evaluate, energy, look_inside, export])
def test_results_that_cannot_be_written_are_refused_before_anything_is_computed(
    module, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(module, "load_trained", lambda *_, **__: pytest.fail("too late"))
    name = module.__name__.rpartition(".")[2]
    checkpoint, in_the_way = tmp_path / "best.pt", tmp_path / name
    for path in (checkpoint, in_the_way):
        path.touch()
    cases = {
        (): f"results cannot go beside the checkpoint ({in_the_way} is a file): name another "
        "folder with --out",
        ("--out", in_the_way): f"--out {in_the_way}: {in_the_way} is a file; name another folder",
        ("--out", "/proc/x/y"): "--out /proc/x/y: nothing can be written in /proc (No such file or "
        "directory); name another folder",
    }
    for flags, sentence in cases.items():
        with pytest.raises(SystemExit) as end:
            module.main([checkpoint, *flags])
        assert end.value.code == 2
        assert capsys.readouterr().err == f"error: {sentence}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", name}


@pytest.mark.parametrize("sizes, advice", [
    ({"batch_size": 64}, "CPU out of memory with --batch_size 64: try smaller ones\n"),
    ({}, "CPU out of memory: --device names a device that may have more\n"),
])  # fmt: skip
def test_without_memory_only_flags_that_the_command_has_are_named(capsys, sizes, advice):
    with pytest.raises(SystemExit) as end, command("cpu", **sizes):
        raise MemoryError
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {advice}"


def test_control_c_does_not_speak_of_a_training(capsys):
    with pytest.raises(SystemExit) as end, command("cpu", batch_size=1):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped before the end; the same command begins again\n"
