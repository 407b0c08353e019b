"""The commands: each once in little, what each refuses, and how each ends."""

import json
import re
from pathlib import Path

import pytest
import torch

from benchmark.comparison import compare
from benchmark.speed import (
    cost,
    gpu,
    gradients,
    inference,
    precision,
    profile,
    scaling,
    sparsity,
    step,
)
from benchmark.speed import input as benchmark_input
from benchmark.speed import readme_figure as figure
from benchmark.speed.command import run
from experiment.train.failure import RunFailed
from tests.support.comparison import PLAN
from tests.support.compiler import needs_compiler
from tests.support.trained_run import make_checkpoint

ROOT = Path(__file__).parents[3]
COMMANDS = (
    compare,
    cost,
    figure,
    gpu,
    gradients,
    inference,
    benchmark_input,
    precision,
    profile,
    scaling,
    sparsity,
    step,
)
MEMORY = "CPU out of memory: try a smaller batch, fewer time steps or a smaller network"
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
TINY = ["--width", "4", "--batch", "2", "--size", "16", "--repeats", "1"]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("width is 0:\nexpected more"), 2, "error: width is 0: expected more\n"),
        (FileNotFoundError(2, "not there", "a/b"), 2, "error: a/b: not there\n"),
        (MemoryError(), 2, f"error: {MEMORY}\n"),
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


def test_what_main_returns_is_handed_on():
    assert run(lambda: 3) == 3


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_flag_says_what_it_is(command):
    parser = command.get_parser()
    assert all(action.help for action in parser.flags().values())
    assert command.__doc__ in parser.format_help()


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (step, "--T 0", "--T: expected a whole number from 1 up to 2147483647, got '0'"),
        (step, "--rep 3", "unrecognized arguments: --rep 3"),
        (step, "--device tpu", "expected cpu or cuda, got 'tpu'"),
        (step, "--contestants fastest", "invalid choice: 'fastest'"),
        (step, "--contestants bptt_graph", "bptt_graph: a CUDA graph needs --device cuda"),
        (step, "--contestants two_stage --arch vgg11", "two_stage cannot take --arch vgg11, only"),
        (cost, "--methods magic", "invalid choice: 'magic'"),
        (cost, "--output {file}/folder", "--output {file}/folder: "),
        (profile, "--arch vgg11 --size 8 --batch 1", ""),
        (sparsity, "--firing 101", "--firing: expected a number from 0 up to 100, got '101'"),
        (sparsity, "--firing -1", "--firing: expected a number from 0 up to 100, got '-1'"),
        (sparsity, "--firing often", "--firing: expected a number, got 'often'"),
        (precision, "--run {file}", "{file}"),
        (inference, "--run {file}", "{file}"),
        (gpu, "--only magic", "invalid choice: 'magic'"),
        pytest.param(gpu, "", "there is no GPU here that torch can use", marks=without_gpu),
        (compare, "--plan x --minutes 0", "--minutes: expected a number above 0"),
        (compare, "--plan x --minutes nan", "--minutes: expected a number above 0"),
        (compare, "--plan {picture}", "{picture} is a picture: expected a TOML file"),
        (compare, "--plan {plan} --output {file}", "--output {file}: {file} is a file; name"),
        (benchmark_input, "--data_path {file}/no", "no/train is not there: expected FOLDER/"),
        (figure, "--measured {file}.json", "--measured {file}.json cannot be drawn (No such file"),
        (figure, "--measured {step} --output {file}", "(it is what benchmark's step wrote)"),
        (figure, "--measured {results}", "(it is what benchmark's compare wrote)"),
        (figure, "--measured {export}", "(it has no rows of methods and their costs)"),
        (figure, "--measured {empty}", "(it has no rows of methods and their costs)"),
        (figure, "--measured {half}", "cannot be drawn (Expecting property name"),
        (figure, "--measured {picture}", "(it is a picture)"),
        (figure, "--measured {folder}", "(Is a directory)"),
        (figure, "--measured {cost} --output {folder}/no/figure.PNG", "{folder}/no"),
    ],
)
def test_what_cannot_be_is_one_sentence(command, arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_input, "rate_of_step", measures_nothing)  # refused before
    monkeypatch.setattr(precision, "Flips", measures_nothing)
    contents = {
        "file": "",
        "results": '{"command": "python -m benchmark.comparison.compare", "rows": [{}]}',
        "export": '{"rows": [{"name": "esd"}]}',
        "empty": '{"machine": {"processor": "a", "arch": "b"}, "rows": []}',
        "half": "{",
        "picture": b"\x89PNG\r\n\x1a\n",
        "plan": PLAN,
    }
    paths = {"folder": tmp_path} | {name: tmp_path / name for name in contents}
    paths |= {name: ROOT / "docs" / "benchmark" / f"{name}.json" for name in ("step", "cost")}
    for name, content in contents.items():
        paths[name].write_bytes(content if isinstance(content, bytes) else content.encode())
    words = [word.format(**paths) for word in arguments.split()]
    with pytest.raises(SystemExit) as stop:
        run(lambda: command.main(words))
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message.format(**paths) in error
    assert error.startswith("error: ") and error.count("\n") == 1


def measures_nothing(*_):
    pytest.fail("it measured")


def written(folder, name, printed):
    """The JSON of a command, which also wrote a picture, and the text that it printed."""
    assert (folder / f"{name}.md").read_text() in printed
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture
def in_this_process(monkeypatch):
    """What the commands measure in processes of their own: see `test_harness`."""
    for command in (step, cost):
        monkeypatch.setattr(command, "in_own_process", lambda threads, function, *a: function(*a))


def test_step_in_little(tmp_path, capsys, in_this_process):
    """With branches and without; contestants that lack the network are left out."""
    words = [*TINY, "--warmup", "1", "--sweep", "2", "--output", tmp_path / "new"]
    words += ["--contestants", "two_stage", "one_pass", "--arch", "sew_resnet18"]
    rows = step.main(words)
    printed = capsys.readouterr().out
    assert "they cannot take --arch sew_resnet18: two_stage\n" in printed
    found = [(row.name, row.branches, row.T) for row in rows]
    assert found == [("one_pass", False, 2), ("one_pass", True, 2)]
    assert all(row.peak > row.saved > 0 and 0 < row.firing < 1 for row in rows)
    found = written(tmp_path / "new", "step", printed)
    assert found["rows"] == [row._asdict() for row in rows]
    assert found["command"].startswith("python -m benchmark.speed.step --width 4 --batch 2")
    assert found["machine"]["threads"] == 1


def test_cost_in_little(tmp_path, capsys, in_this_process):
    words = ["--T", "3", "1", "--methods", "rate_sparse", "sltt", *TINY, "--output", tmp_path]
    rows = cost.main(words)
    assert [(row.method, row.T) for row in rows] == [
        (method, T) for method in ("rate_sparse", "sltt") for T in (1, 3)
    ]
    assert all(row.seconds > row.backward_seconds > 0 for row in rows)
    assert all(min(row.forward_peak, row.backward_peak) > row.kept > 0 for row in rows)
    found = written(tmp_path, "cost", capsys.readouterr().out)
    assert found["rows"] == [row._asdict() for row in rows]
    out = tmp_path / "figure.PNG"
    figure.main(["--measured", tmp_path / "cost.json", "--output", out])
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_committed_measurements_can_be_drawn(tmp_path):
    out = tmp_path / "figure.PNG"
    figure.main(["--measured", ROOT / "docs" / "benchmark" / "cost.json", "--output", out])
    assert out.stat().st_size > 10_000


def test_profile_in_little(capsys):
    """Everything is counted once, and the known kinds are found."""
    spent = profile.main(["--batch", "2", "--T", "2", "--size", "8", "--repeats", "1"])
    ours = ["convolutions", "neurons", "batch statistics"]
    expected = {f"spiking layers and loss, forward: {what}" for what in ours}
    ours = ["convolutions", "norms and neurons"]
    expected |= {f"spiking layers, backward: {what}" for what in ours} | {"optimizer"}
    for way in ("forward", "heads and loss, backward"):
        kinds = ("depthwise convolutions", "other convolutions", "other")
        expected |= {f"branches, {way}: {what}" for what in kinds}
    assert expected <= {kind for kind, microseconds in spent.items() if microseconds > 0}
    printed = capsys.readouterr().out
    assert re.search(rf"\| sum +\| +{sum(spent.values()) / 1e3:.1f} \|", printed)
    assert "\n| aten::convolution_backward " in printed


@needs_compiler
def test_sparsity_in_little(tmp_path, capsys):
    words = [*TINY, "--T", "2", "--firing", "0", "12.5", "--output", tmp_path / "new"]
    text = sparsity.main(words)
    assert [line.split()[1] for line in text.splitlines()[-2:]] == ["0", "12.5"]
    assert (tmp_path / "new" / "sparsity.md").read_text() == text
    assert text in capsys.readouterr().out


@needs_compiler
def test_gradients_in_little(tmp_path, capsys):
    """A row for each size of layer that is filtered; the others are not measured."""
    words = ["--width", "32", "--batch", "2", "--size", "16", "--repeats", "1", "--T", "2"]
    text = gradients.main([*words, "--output", tmp_path / "new"])
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")][1:]
    expected = [["4", "32 to 32 channels, 16x16"], ["3", "64 to 64 channels, 8x8"]]
    assert [[cell.strip() for cell in row[:2]] for row in rows] == expected
    errors = [error for row in rows for cell in (row[3], row[5]) for error in cell.split(",")]
    assert all(0 < float(error) < 3e-6 for error in errors)
    assert (tmp_path / "new" / "gradients.md").read_text() == text
    assert text in capsys.readouterr().out
    with pytest.raises(ValueError, match="no layer of resnet18, width 4"):
        gradients.main(TINY)


def test_inference_in_little(tmp_path, capsys):
    """A table for each size of batch; early exit is for trained networks."""
    trained = ["--run", make_checkpoint(tmp_path), "--judged", 20]
    for words, names in ((TINY, 4), ([*trained, "--batch", 2, "--repeats", 1], 5)):
        shared = ["--threads", 1, "--output", tmp_path / "new"]
        text = inference.main([*words, *([] if words is not TINY else ["--T", "2"]), *shared])
        assert (tmp_path / "new" / "inference.md").read_text() == text
        assert text in capsys.readouterr().out
        _, *tables = text.split("## ")
        assert [table.split(",")[0] for table in tables] == ["Batches of 1", "Batches of 2"]
        for table in tables:
            rows = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("| ")]
            assert len(rows) == 1 + names and rows[1][0].strip() == "ANN"
            assert "(1.00)" in rows[1][1] and not "".join(rows[1][2:]).strip()
            assert all("(" in cell for row in rows[2:] for cell in row[1:])
    assert re.search(r"of the first 20 test images \d+\.\d\d % right", text)


def test_precision_in_little(tmp_path, capsys):
    """Fewer bits, more flips; the stem, which reads no spikes, is not among the layers."""
    trained = make_checkpoint(tmp_path)
    words = ["--width", 8, "--T", 2, "--batch", 4, "--size", 16, "--run", trained]
    text = precision.main([*words, "--output", tmp_path / "new"])
    assert (tmp_path / "new" / "precision.md").read_text() == text
    assert text in capsys.readouterr().out
    untrained, of_run = (part.splitlines() for part in text.split("## ")[1:])
    for lines in (untrained, of_run):
        names = [line.split()[1] for line in lines if line.startswith("| ")]
        assert names[1] == "stages.0.0.unit1" and len(names) == 1 + 16 + 1
    values, firing, *flips = (float(cell) for cell in untrained[-2].split("|")[2:-1])
    assert values > 50 and 5 < firing < 50
    fp32, tf32, fp16, bf16 = flips
    assert fp32 < tf32 < 2 * fp16 < bf16 < 0.5


def test_rounding_leaves_so_many_bits_of_mantissa():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 1e3
    assert precision.rounded(values, 10).equal(values.half().float())
    assert precision.rounded(values, 7).equal(values.bfloat16().float())


@pytest.mark.slow
def test_scaling_exchanges_every_gradient_once_and_statistics_only_on_request(capsys):
    """Bytes against what they must be: 4 for each parameter, for the loss and for the check."""
    words = ["--width", "4", "--T", "1", "--batch", "2", "--steps", "2"]
    scaling.main([*words, "--measure"])  # what one process does, in this one
    one = json.loads(capsys.readouterr().out)
    assert (one["processes"], one["gradient_bytes"], one["other_bytes"]) == (1, 0, 0)
    scaling.main([*words, "--processes", "2"])
    out = capsys.readouterr().out
    (row,) = re.findall(r"^\| +2 \|(.+)\|$", out, re.MULTILINE)
    two = row.split("|")
    assert float(two[3]) == pytest.approx(4 * one["parameters"] / 1e6, abs=0.05)
    assert int(two[4]) == 8
    assert float(two[0]) > 0 and one["seconds"] > 0
    assert f"{one['parameters']:,} parameters" in out
