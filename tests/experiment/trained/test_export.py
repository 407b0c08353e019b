"""The export command: every file read back by independent readers gives the network."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from experiment.trained.evaluate import count_scores
from experiment.trained.export import main
from experiment.trained.part.agreement import folding_agreement, program_agreement
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.exported import read_program, read_weights
from experiment.trained.part.formats import choose_formats
from experiment.trained.part.trained_network import load_trained
from model.inference.fold import fold
from tests.support.micro_training import ONE_PROCESS
from tests.support.trained_run import CPU, first_samples, make_checkpoint, make_trained

IMAGES = 11


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(trained network, export folder, what the command returned) of a hard-reset network."""
    folder = tmp_path_factory.mktemp("run")
    trained = make_trained(folder, "--arch", "vgg11", "--v_reset", "0", "--T", "2")
    result = main([trained.path, "--images", IMAGES, "--device", "cpu"])
    return trained, folder / "export-best", result


def test_everything_is_written_and_verified(run):
    _, folder, result = run
    names = {"model.safetensors", "program.pt2", "model.onnx", "graph.nir"}
    names |= {"card.md", "export.json"}
    assert {path.name for path in folder.iterdir()} == names
    for counts in (result["float64_counts"], result["program_counts"]):
        assert counts["different"] == 0
        assert counts["images"] == counts["answers"] == IMAGES
        assert 0 < counts["spikes"] < counts["places"]
    assert result["onnx_counts"]["images"] == result["onnx_counts"]["answers"] == IMAGES
    assert json.loads((folder / "export.json").read_text()) == result


def test_safetensors_holds_the_folded_weights_for_any_reader(run):
    trained, folder, _ = run
    net = trained.net
    arrays = load_file(folder / "model.safetensors")
    assert set(arrays) == set(fold(net).state_dict())
    stem = net.stem
    scale = stem.norm.weight / (stem.norm.running_var + stem.norm.eps).sqrt()
    expected = (stem.conv.weight * scale.view(-1, 1, 1, 1)).detach().numpy()
    np.testing.assert_allclose(arrays["stem.conv.weight"], expected, rtol=1e-6)
    assert all(value.dtype == np.float32 for value in arrays.values())


@torch.no_grad()
def test_weights_read_back_are_the_network_and_describe_its_input(run):
    trained, folder, result = run
    exported = read_weights(folder / "model.safetensors")
    x, _ = first_samples(trained, 5)
    assert torch.equal(exported.net(x), fold(trained.net)(x))
    assert exported.description == result["description"]
    assert exported.description["class_names"] == list("0123456789")


def test_files_are_read_from_a_folder_that_is_no_utf_8(run, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(run[1], folder)
    assert read_weights(folder / "model.safetensors").description == run[2]["description"]
    assert isinstance(read_program(folder / "program.pt2"), torch.export.ExportedProgram)


def test_the_program_runs_where_only_torch_is_installed(run, tmp_path):
    trained, folder, _ = run
    x, _ = first_samples(trained, 5)
    np.save(tmp_path / "x.npy", x.numpy())
    script = (
        "import sys, json, numpy, torch\n"
        "extra = {'description.json': ''}\n"
        "program = torch.export.load(sys.argv[1], extra_files=extra).module()\n"
        "x = torch.from_numpy(numpy.load(sys.argv[2] + '/x.npy'))\n"
        "numpy.save(sys.argv[2] + '/y.npy', program(x).detach().numpy())\n"
        "assert not any(name.split('.')[0] in ('model', 'experiment') for name in sys.modules)\n"
        "print(json.loads(extra['description.json'])['data'])\n"
    )
    arguments = [sys.executable, "-I", "-c", script, folder / "program.pt2", tmp_path]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == "Digits"
    with torch.no_grad():
        expected = fold(trained.net)(x)
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected.numpy())


CARD = (
    "vgg11 with spikes, T = 2, for Digits",
    "hard reset to 0",
    "graph.nir",
    "arch: vgg11, width 2, stem published",
    "parameters: 9,274",
    "read-out: the mean of the logits over the T time steps",
    "dt = 0.0001 s",
    "1,437 samples",
    "stages.3.2",
    "## Limits",
)


def test_the_card_says_what_was_measured(run):
    _, folder, result = run
    card = (folder / "card.md").read_text()
    accuracy, synops = result["accuracy"]["top1"], result["energy"]["synops"]
    measured = (f"Top-1 {accuracy:.2f} %", f"{synops:,.0f}")
    verified = (result[name] for name in ("float64", "program", "onnx"))
    for text in (*CARD, *measured, *verified):
        assert text in card, text


def test_agreement_counts_a_changed_spike(run):
    trained, folder, _ = run
    x, _ = first_samples(trained, 5)
    net, program = fold(trained.net), read_program(folder / "program.pt2")
    assert program_agreement(net, program, [x, x[:1]]).different == 0
    with torch.no_grad():
        net.stages[3][2].conv.bias += 0.2
    assert program_agreement(net, program, [x]).different > 0
    assert folding_agreement(trained.net, [x], torch.float64).different == 0


def test_nir_of_a_soft_reset_is_left_out_if_it_is_not_asked_for(trained):
    formats, graph, left_out = choose_formats(trained, None)
    assert formats == ["safetensors", "program", "onnx"] and graph is None
    assert "soft reset" in left_out["graph.nir"]


def test_what_nir_cannot_pool_is_refused_before_anything_is_written(tmp_path, capsys):
    path = make_checkpoint(tmp_path, "--arch", "vggsnn", "--v_reset", "0", "--T", "1")
    with pytest.raises(SystemExit):
        main([path, "--images", 2, "--device", "cpu", "--format", "safetensors", "nir"])
    assert "maps of 4x4 into 3x3" in capsys.readouterr().err
    assert not (tmp_path / "export-best").exists()
    left_out = choose_formats(load_trained(path, CPU), None).left_out
    assert left_out["graph.nir"].startswith("NIR pools by windows of one size")


@torch.no_grad()
def test_the_card_has_the_accuracy_of_the_file_not_of_a_training_in_bfloat16(tmp_path, capsys):
    """And the folder holds this export alone, beside what others have put there."""
    trained = make_trained(tmp_path, "--arch", "vgg11", "--T", "1", "--amp", "bf16")
    folder = tmp_path / "export-best"
    folder.mkdir()
    for name in ("program.pt2", "graph.nir", "card.md", "notes.txt"):
        (folder / name).write_text("of another day")
    options = ["--images", 40, "--format", "safetensors", "--device", "cpu"]
    found = main([trained.path, *options])["accuracy"]

    names = {"model.safetensors", "card.md", "export.json"}
    assert {path.name for path in folder.iterdir()} == names | {"notes.txt"}
    written = capsys.readouterr().out.splitlines()[-1].removeprefix("written: ").split(", ")
    assert set(written) == {str(folder / name) for name in names}

    x, labels = first_samples(trained, 40)
    logits = read_weights(folder / "model.safetensors").net(x)
    loss = F.cross_entropy(logits.double().mean(0), labels).item()
    top1 = 100 * (logits.mean(0).argmax(1) == labels).double().mean().item()
    assert (found["loss"], found["top1"]) == (pytest.approx(loss), pytest.approx(top1))
    in_training = count_scores(trained, EvaluationSet(trained.data, ONE_PROCESS, 40))
    assert in_training["loss"] != pytest.approx(loss, rel=1e-4), "nothing to tell apart"
    card = (folder / "card.md").read_text()
    assert f"Top-1 {top1:.2f} %" in card
    assert "computed in float32" in card and "trained with `--amp bf16`" in card


def test_damaged_weights_are_refused(run, tmp_path):
    content = (run[1] / "model.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        read_weights(tmp_path / "torn.safetensors")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_weights(tmp_path / "none.safetensors")
