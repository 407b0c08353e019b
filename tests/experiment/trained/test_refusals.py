"""What every command on a trained network refuses, and how it ends when something fails."""

import shutil
from contextlib import nullcontext

import pytest
import torch

from experiment.trained import energy, evaluate, export, look_inside, predict
from experiment.trained.part import checkpoint_command
from experiment.trained.part.checkpoint_command import command
from util.process.distributed import Group

WRONG_INPUT = [
    (evaluate, "none.pt", "none.pt does not exist"),
    (evaluate, "", "required"),
    (evaluate, "best.pt --images 361", "--images 361: the test set has only 360"),
    (evaluate, "best.pt --thresholds 1.5", "expected a number from 0 up to 1"),
    (evaluate, "best.pt --device gpu7", "unknown device"),
    (look_inside, "best.pt --image 360", "--image 360: expected 0 to 359"),
    (look_inside, "best.pt --neuron stem", "expected LAYER:CHANNEL,ROW,COLUMN"),
    (look_inside, "best.pt --gradient_images 400", "--gradient_images 400: the test set has only"),
    (export, "best.pt --format nir", "NIR cannot express a soft reset"),
    (predict, "none.pt a.png", "none.pt does not exist"),
    (predict, "a.png a.png", "a.png is a picture: expected a checkpoint"),
    (predict, "best.pt a.png --top 11", "--top 11: the network knows only 10 classes"),
    (predict, "a.nir a.png", "a.nir is an HDF5 file"),
    (predict, "text.safetensors a.png", "text.safetensors is a text file"),
    (evaluate, "best.pt --out a.png", "--out a.png: {folder}/a.png is a file; name another folder"),
    (energy, "best.pt --out /proc/x/y", "nothing can be written in /proc"),
]


@pytest.mark.parametrize("module, arguments, sentence", WRONG_INPUT)
def test_wrong_input_ends_with_a_sentence_and_code_2(
    module, arguments, sentence, checkpoint, tmp_path, monkeypatch, capsys
):
    shutil.copy(checkpoint, tmp_path / "best.pt")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "a.nir").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "text.safetensors").write_text("nothing")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as end:
        module.main(arguments.split())
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert sentence.format(folder=tmp_path) in message and message.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("module", [evaluate, energy, look_inside, export])
def test_a_place_for_results_is_looked_for_before_anything_is_computed(
    module, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoint_command, "load_trained", lambda *_, **__: pytest.fail("late"))
    in_the_way = tmp_path / f"{module.__name__.rpartition('.')[2]}-best"
    for path in (tmp_path / "best.pt", in_the_way):
        path.touch()
    with pytest.raises(SystemExit) as end:
        module.main([tmp_path / "best.pt"])
    assert end.value.code == 2
    sentence = f"results cannot go beside the checkpoint ({in_the_way} is a file): name another"
    assert sentence in capsys.readouterr().err


DRAWN = [
    (evaluate, "draw_scores", "| spiking network |"),
    (energy, "draw_energy", "µJ"),
    (look_inside, "draw_potentials", "| stem "),
]


@pytest.mark.parametrize("module, draw, shown", DRAWN)
def test_a_picture_that_fails_never_costs_the_numbers(
    module, draw, shown, checkpoint, tmp_path, monkeypatch, capsys
):
    def fail(*arguments):
        raise OSError(28, "No space left on device", "picture.png")

    monkeypatch.setattr(module, draw, fail)
    with pytest.raises(SystemExit):
        module.main([checkpoint, "--out", tmp_path, "--images", "4", "--device", "cpu"])
    printed = capsys.readouterr()
    assert shown in printed.out
    assert printed.err == "error: picture.png: No space left on device\n"
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_several_processes_are_refused_unless_they_share_the_work(monkeypatch, capsys):
    two = nullcontext(Group(0, 2, torch.device("cpu")))
    monkeypatch.setattr(checkpoint_command, "process_group", lambda device: two)
    with pytest.raises(SystemExit), command(None):
        pass
    assert "2 processes: this command runs in one" in capsys.readouterr().err
    with command(None, shared=True) as group:
        assert group.world_size == 2


ENDS = [
    (MemoryError, {"batch_size": 64}, 2, "out of memory with --batch_size 64: try smaller ones\n"),
    (MemoryError, {}, 2, "out of memory: --device names a device that may have more\n"),
    (KeyboardInterrupt, {}, 130, "stopped before the end; the same command begins again\n"),
]


@pytest.mark.parametrize("error, sizes, code, sentence", ENDS)
def test_an_end_speaks_of_the_command_not_of_a_training(error, sizes, code, sentence, capsys):
    with pytest.raises(SystemExit) as end, command("cpu", **sizes):
        raise error
    assert end.value.code == code
    assert capsys.readouterr().err.endswith(sentence)
