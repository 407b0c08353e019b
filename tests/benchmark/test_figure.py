"""The README's figure: drawn from measurements, refused without them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmark.figure import CURVES, main


def measured(path: Path, *, branches: bool = True) -> Path:
    rows = [
        {"name": name, "branches": branches, "T": T, "batch": 16, "seconds": T * 0.1, "saved": 2e6}
        for name in CURVES
        for T in (2, 4)
    ]
    path.write_text(json.dumps({"machine": {"processor": "some processor"}, "rows": rows}))
    return path


def test_the_figure_is_a_wide_picture(tmp_path: Path) -> None:
    out = tmp_path / "figure.PNG"
    main(["--measured", str(measured(tmp_path / "step.json")), "--output", str(out)])
    with Image.open(out) as picture:
        assert picture.width > 2 * picture.height > 800


@pytest.mark.parametrize("problem", ["missing", "not JSON", "no branches"])
def test_without_measurements_there_is_no_figure(tmp_path: Path, problem: str, capsys) -> None:
    path = tmp_path / "step.json"
    if problem == "not JSON":
        path.write_text("{")
    elif problem == "no branches":
        measured(path, branches=False)
    with pytest.raises(SystemExit) as stop:
        main(["--measured", str(path), "--output", str(tmp_path / "figure.PNG")])
    assert stop.value.code == 2
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "figure.PNG").exists()
