"""The benchmark of sparse convolutions on a tiny network."""

import pytest

from benchmark import sparsity
from benchmark.contestant import Workload
from tests.support.compiler import needs_compiler

TINY = ["--width", "4", "--batch", "2", "--size", "16", "--T", "2", "--repeats", "1"]


@needs_compiler
def test_a_row_for_every_firing_rate(tmp_path, capsys):
    text = sparsity.main([*TINY, "--firing", "0", "12.5", "--output", str(tmp_path / "new")])
    assert [line.split()[1] for line in text.splitlines()[-2:]] == ["0", "12.5"]
    assert (tmp_path / "new" / "sparsity.md").read_text() == text
    assert text in capsys.readouterr().out


def test_spikes_fire_as_often_as_asked_and_the_stem_reads_none():
    own = sparsity.Convolutions(Workload("resnet18", 4, 8, False, 16, width=8), 0.25)
    assert len(own.cases) == 16 + 3
    for spikes, maps, convolution in own.cases:
        assert convolution.weight.shape[1] >= 8 and maps.equal(spikes.float())
        assert abs(float(maps.mean()) - 0.25) < 0.02


def test_a_folder_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stop:
        sparsity.main([*TINY, "--firing", "5", "--output", str(tmp_path / "file" / "folder")])
    assert stop.value.code == 2
    assert f"--output {tmp_path}/file/folder: " in capsys.readouterr().err


@pytest.mark.parametrize("value", ["101", "-1", "often"])
def test_wrong_firing_rates_are_refused(value, capsys):
    with pytest.raises(SystemExit) as stop:
        sparsity.main(["--firing", value])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "--firing: expected a number" in error and f"got '{value}'" in error
