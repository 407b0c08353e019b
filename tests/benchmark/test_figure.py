"""The README's figure: drawn from measurements, refused without them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmark.cost_report import Cost, cost_files
from benchmark.figure import main
from model import METHODS

ROOT = Path(__file__).parents[2]


def measured(path: Path) -> Path:
    rows = [
        Cost(method, T, 8, T * 0.1, 0.1, 10**7 * T, 2 * 10**7, 10**7)
        for method in METHODS
        for T in (2, 4)
    ]
    machine = {"processor": "some processor"}
    path.parent.mkdir(exist_ok=True)
    files = dict(cost_files(rows, {**machine, "arch": "resnet18"}, "command"))
    path.write_bytes(files["cost.json"])
    return path


def test_the_figure_is_a_wide_picture(tmp_path: Path) -> None:
    out = tmp_path / "figure.PNG"
    main(["--measured", str(measured(tmp_path / "cost.json")), "--output", str(out)])
    with Image.open(out) as picture:
        assert picture.width > 2 * picture.height > 800


def test_the_committed_measurements_can_be_drawn(tmp_path: Path) -> None:
    out = tmp_path / "figure.PNG"
    main(["--measured", str(ROOT / "docs" / "benchmark" / "cost.json"), "--output", str(out)])
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize("problem", ["missing", "not JSON", "no machine", "no rows"])
def test_without_measurements_there_is_no_figure(tmp_path: Path, problem: str, capsys) -> None:
    path = tmp_path / "cost.json"
    if problem == "not JSON":
        path.write_text("{")
    elif problem == "no machine":
        path.write_text('{"rows": []}')
    elif problem == "no rows":
        path.write_text('{"machine": {"processor": "a", "arch": "b"}, "rows": []}')
    with pytest.raises(SystemExit) as stop:
        main(["--measured", str(path), "--output", str(tmp_path / "figure.PNG")])
    assert stop.value.code == 2
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "figure.PNG").exists()


def test_what_another_command_wrote_is_named(tmp_path: Path, capsys) -> None:
    commands = {"results.json": "python benchmark/compare.py --plan x", "export.json": None}
    for name, command in commands.items():
        (tmp_path / name).write_text(json.dumps({"command": command, "rows": [{"name": "esd"}]}))
    (tmp_path / "best.pt").write_bytes(b"\x89PNG\r\n\x1a\n")
    for path, reason in (
        (ROOT / "docs" / "benchmark" / "step.json", "it is what benchmark/step.py wrote"),
        (tmp_path / "results.json", "it is what benchmark/compare.py wrote"),
        (tmp_path / "export.json", "it has no rows of methods and their costs"),
        (tmp_path / "best.pt", "it is a picture"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["--measured", str(path), "--output", str(tmp_path / "figure.PNG")])
        assert stop.value.code == 2
        sentence = f"--measured {path} cannot be drawn ({reason}): expected the cost.json that"
        assert sentence in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys) -> None:
    out = tmp_path / "no" / "figure.PNG"
    with pytest.raises(SystemExit) as stop:
        main(["--measured", str(measured(tmp_path / "cost.json")), "--output", str(out)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert str(out) in error and error.count("\n") == 1
