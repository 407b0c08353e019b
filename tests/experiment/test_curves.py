"""The picture shows the records, and is replaced whole."""

import json

import matplotlib.figure
import matplotlib.image
import pytest
from matplotlib.figure import Figure

from experiment.curves import draw_curves, main


def record_of(epoch, heads=3):
    losses = {"total": 3.0 - epoch, "hard": 2.5 - epoch, "soft": 0.5, "reliable": 0.5}
    rates = {"stem": 0.2, "stages.0": 0.1 + epoch / 100, "stages.1": 0.05}
    test = [40.0 + head + epoch for head in range(heads)]
    return {
        "epoch": epoch,
        "train": {**losses, "head_top1": [50.0 + epoch] * heads},
        "test": {"head_top1": test, "firing_rate": rates},
    }


@pytest.fixture
def figures(monkeypatch):
    made = []

    class Remembered(Figure):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(matplotlib.figure, "Figure", Remembered)
    return made


def test_each_number_is_drawn(tmp_path, figures):
    heads = 3
    draw_curves([record_of(epoch, heads) for epoch in range(4)], tmp_path / "curves.png")
    loss, accuracy, reliable, rates = figures[0].axes
    lines = {line.get_label(): list(line.get_ydata()) for line in loss.lines}
    assert lines["total = hard + β soft"] == [3.0, 2.0, 1.0, 0.0]
    own = {line.get_label(): list(line.get_ydata()) for line in accuracy.lines}
    assert own["spiking network"] == [40.0 + heads - 1 + epoch for epoch in range(4)]
    assert own["spiking network, training"] == [50.0, 51.0, 52.0, 53.0]
    assert sum(label.startswith("branch") for label in own) == heads - 1
    assert list(reliable.lines[0].get_ydata()) == [50.0] * 4
    assert len(rates.lines) == 3
    for panel in (loss, accuracy, reliable, rates):
        assert panel.get_xlabel() == "epoch"
        assert panel.get_ylabel()
        assert list(panel.lines[0].get_xdata()) == [0, 1, 2, 3]
        assert all(epoch == int(epoch) for epoch in panel.get_xticks())
    assert matplotlib.image.imread(tmp_path / "curves.png").shape[2] == 4


@pytest.mark.parametrize(("heads", "hard"), [(1, 2.5), (3, 3.0)])
def test_without_branches_or_with_beta_0_nothing_speaks_of_a_teacher(
    tmp_path, figures, heads, hard
):
    record = record_of(0, heads)
    record["train"]["hard"] = hard
    draw_curves([record], tmp_path / "curves.png")
    loss, accuracy, rates = figures[0].axes
    assert [line.get_label() for line in loss.lines] == ["total"]
    assert len(accuracy.lines) == heads + 1
    assert rates.get_title().startswith("firing rate")


def test_one_epoch_is_visible(tmp_path, figures):
    draw_curves([record_of(0)], tmp_path / "curves.png")
    assert all(line.get_marker() == "o" for panel in figures[0].axes for line in panel.lines)


def test_the_command_draws_what_is_recorded_so_far(tmp_path, figures, capsys):
    lines = [json.dumps(record_of(epoch)) for epoch in range(3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"epoch": 3, "tra')
    main([str(tmp_path)])
    assert list(figures[0].axes[0].lines[0].get_xdata()) == [0, 1, 2]
    assert capsys.readouterr().out == f"wrote {tmp_path / 'curves.png'}: 3 epochs\n"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("content", ["no folder", None, "", "{\n", "{}\n", "[1]\n"])
def test_a_folder_without_records_is_refused_in_one_sentence(tmp_path, capsys, content):
    folder, said = tmp_path / "run", f"{tmp_path / 'run' / 'metrics.jsonl'} "
    if content == "no folder":
        said = f"there is no folder {folder}: name that of a run\n"
    else:
        folder.mkdir()
        if content is not None:
            (folder / "metrics.jsonl").write_text(content)
    with pytest.raises(SystemExit) as end:
        main([str(folder)])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
    assert not (folder / "curves.png").exists()
