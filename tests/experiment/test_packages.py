"""Commands on a plain image of PyTorch: what works there, and what names the package it misses."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiment.cifar import main as cifar
from experiment.dvs import main as dvs
from experiment.dvs import process
from experiment.packages import OPTIONAL, TORCH, missing_package
from experiment.train.failure import RunFailed, failures_of_a_run, one_sentence_errors
from experiment.trained import energy, export, predict
from experiment.trained.part.formats import choose_formats
from tests.support.commands import COMMANDS, ROOT
from tests.support.event_files import cifar10_dvs_events, write_aedat_folders
from tests.support.plain_image import finders_without
from tests.support.trained_run import make_checkpoint, make_trained

MICRO = shlex.split("--width 2 --T 1 --num_epoch 1 --num_workers 0 --device cpu")
CIFAR, IMAGENET = "experiment/cifar/main.py", "experiment/imagenet/main.py"
FAKE = ["--dataset", "FakeData"]


def on_a_plain_image(commands, folder):
    """How each command ends: [exit code, stdout, stderr]."""
    (folder / "commands.json").write_text(json.dumps(commands))
    program = [sys.executable, "-m", "tests.support.plain_image", folder / "commands.json"]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
def test_a_plain_image_trains(tmp_path):
    runs = ["--log_path", str(tmp_path)]
    checkpoint, few = f"{tmp_path}/FakeData*/best.pt", ["--images", "8", "--device", "cpu"]
    images = ["--dummy", "8", "--arch", "resnet18", "--image_size", "32", "--train_batch_size", "4"]
    works = [
        [CIFAR, *FAKE, "--arch", "vgg11", *MICRO, *runs, "--train_batch_size", "256"],
        [IMAGENET, *images, *MICRO, *runs],
        ["experiment/trained/evaluate.py", checkpoint, *few],
        ["experiment/trained/look_inside.py", checkpoint, *few, "--gradient_images", "2"],
        ["experiment/trained/predict.py", checkpoint, "docs/digits.png", "--device", "cpu"],
    ]
    refused = {
        "scikit-learn": [CIFAR, *FAKE, "--val_fraction", "0.1", *MICRO, *runs],
        "spikingjelly": ["experiment/dvs/main.py", "--data_path", str(tmp_path), *runs],
    }
    helps = [[command, "--help"] for command in COMMANDS]
    ends = on_a_plain_image([*helps, *works, *refused.values()], tmp_path)
    assert len(helps) > 15
    for command, (code, out, err) in zip([*helps, *works], ends, strict=False):
        assert (code, err) == (0, ""), (command, err)
        assert "usage: " in out or command[1] != "--help", command
    assert sum("finished: test top-1" in out for _, out, _ in ends) == 2
    assert len(list(tmp_path.glob("*/evaluate-*/evaluate.png"))) == 1
    trained, looked_inside = ends[len(helps)][1], ends[len(helps) + 3][1]
    assert trained.count("tensorboard is not installed") == 1
    assert "no TensorBoard events: tensorboard is not installed" in looked_inside
    for package, (code, out, err) in zip(refused, ends[-len(refused) :], strict=True):
        assert (code, out) == (2, "") and err.startswith(f"error: {package} is not installed")
    assert len(list(tmp_path.glob("*/config.json"))) == 2  # a refused run leaves no folder


@pytest.fixture
def hide(monkeypatch):
    """Hide a package that is installed, and what of ours has imported it."""

    def hide(module):
        importers = {
            "nir": "experiment.trained.part.nir_graph",
            "onnxruntime": "experiment.trained.part.onnx_model",
        }
        for name in list(sys.modules):
            if name.partition(".")[0] == module or name == importers.get(module):
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", finders_without({module}))

    return hide


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(make_checkpoint(tmp_path_factory.mktemp("run"), *FAKE, "--T", "1"))


REFUSED = [
    ("sklearn", cifar, ["--dataset", "Digits", *MICRO]),
    ("sklearn", cifar, [*FAKE, *MICRO, "--val_fraction", "0.1"]),
    ("sklearn", dvs, ["--dataset", "DigitsDVS"]),
    ("sklearn", process, ["--dataset", "DigitsDVS", "--data_path", "data"]),
    ("spikingjelly", dvs, ["--dataset", "NMNIST"]),
    ("spikingjelly", process, ["--data_path", "data"]),
    ("spikingjelly", energy, ["CHECKPOINT", "--images", "2"]),
    ("spikingjelly", export, ["CHECKPOINT"]),
    ("safetensors", export, ["CHECKPOINT"]),
    ("safetensors", predict, ["EXPORT", "a.png"]),
    ("nir", export, ["CHECKPOINT", "--format", "nir"]),
    ("onnxscript", export, ["CHECKPOINT", "--format", "onnx"]),
    ("onnxruntime", export, ["CHECKPOINT", "--format", "onnx"]),
]


@pytest.mark.parametrize(("module", "command", "flags"), REFUSED)
def test_what_takes_a_missing_package_names_it(
    module, command, flags, hide, checkpoint, tmp_path, tmp_path_factory, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    hide(module)
    export_file = tmp_path_factory.mktemp("export") / "model.safetensors"
    export_file.write_bytes((2).to_bytes(8, "little") + b"{}")
    files = {"CHECKPOINT": checkpoint, "EXPORT": export_file}
    with pytest.raises(SystemExit) as end:
        command.main([files.get(flag, flag) for flag in flags])
    install = OPTIONAL[module].install
    name = install.partition("==")[0]
    assert end.value.code == 2
    sentence = rf"error: {name} is not installed; it is needed for .+: pip install {install}\n"
    assert re.fullmatch(sentence, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in Path(checkpoint).parent.iterdir()] == ["best.pt"]


@pytest.mark.parametrize("error", ["OSError", "ImportError", "RuntimeError"])
def test_a_package_that_cannot_be_loaded_is_no_damage_of_recordings(
    error, tmp_path, monkeypatch, capsys
):
    library = tmp_path / "spikingjelly" / "datasets.py"
    library.parent.mkdir()
    library.with_name("__init__.py").touch()
    library.write_text(f"raise {error}('Could not load this library:\\n libtorchaudio.so')")
    monkeypatch.setitem(sys.modules, "spikingjelly", None)  # undone, so that the one below goes
    for name in list(sys.modules):
        if name.partition(".")[0] == "spikingjelly":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    data = tmp_path / "data"
    write_aedat_folders(data / "extract", cifar10_dvs_events(1))
    before = sorted(data.rglob("*"))
    with pytest.raises(SystemExit) as end:
        process.main(["--data_path", str(data)])
    assert end.value.code == 2
    says = "installed and cannot be loaded: Could not load this library: libtorchaudio.so; these"
    install = OPTIONAL["spikingjelly"].install
    sentence = (
        rf"error: spikingjelly is {says} versions fit together: pip install {TORCH} {install}\n"
    )
    assert re.fullmatch(sentence, capsys.readouterr().err)
    assert sorted(data.rglob("*")) == before


SPARED = [("nir", "graph.nir"), ("onnxscript", "model.onnx"), ("onnxruntime", "model.onnx")]


@pytest.mark.parametrize(("module", "file"), SPARED)
def test_an_export_leaves_out_what_is_not_installed_unless_it_is_asked_for(
    module, file, hide, tmp_path
):
    trained = make_trained(tmp_path, *FAKE, "--T", "1", "--v_reset", "0")
    hide(module)
    formats, _, left_out = choose_formats(trained, None)
    assert left_out.keys() == {file}
    assert left_out[file].startswith(f"{module} is not installed; it is needed for {file}")
    assert len(formats) == 3


@pytest.mark.parametrize("module", OPTIONAL)
def test_a_package_that_a_begun_run_misses_fails_it(module):
    with pytest.raises(RunFailed, match="is not installed"), failures_of_a_run({}):
        raise ModuleNotFoundError("x", name=module)


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("x", name="modle"),
        ModuleNotFoundError("x", name="nir.ir"),
        ImportError("cannot import name 'x' from 'nir'", name="nir"),
        ImportError("x"),
    ],
)
def test_other_failed_imports_are_mistakes_of_the_program(error):
    assert missing_package(error) is None
    with pytest.raises(ImportError), one_sentence_errors({}), failures_of_a_run({}):
        raise error
