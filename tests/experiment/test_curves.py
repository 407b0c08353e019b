"""The picture shows the records, and is replaced whole."""

import json

import matplotlib.figure
import matplotlib.image
import pytest
from matplotlib.figure import Figure

from experiment.curves import distils, draw_curves, main
from tests.support.recorded import record_of, sparsely


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
    assert own["training set"] == [50.0, 51.0, 52.0, 53.0]
    assert own["best epoch (3)"] == [45.0] and "validation set" not in own
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
    assert len(accuracy.lines) == heads + 2
    assert rates.get_title().startswith("firing rate")
    assert rates.get_position().width > 1.9 * loss.get_position().width  # no hole beside it


def test_an_epoch_without_an_evaluation_has_no_points_of_one(tmp_path, figures):
    whole = [record_of(i) | {"validation": {"top1": 60.0 - i}} for i in range(8)]
    draw_curves(sparsely(whole, 3), tmp_path / "curves.png")
    loss, accuracy, reliable, rates = figures[0].axes
    found = {line.get_label(): line for line in accuracy.lines}
    for name in ("spiking network", "branch 1", "validation set"):
        assert list(found[name].get_xdata()) == [2, 5, 7]
    assert list(found["spiking network"].get_ydata()) == [44.0, 47.0, 49.0]
    assert list(found["best epoch (2)"].get_ydata()) == [44.0]
    assert all(list(line.get_xdata()) == [2, 5, 7] for line in rates.lines)
    for line in (*loss.lines, *reliable.lines, found["training set"]):
        assert list(line.get_xdata()) == [*range(8)]


def test_before_the_first_evaluation_the_training_is_drawn(tmp_path, figures):
    draw_curves(sparsely([record_of(i) for i in range(4)], 9)[:3], tmp_path / "curves.png")
    loss, accuracy, _, rates = figures[0].axes
    assert list(loss.lines[0].get_xdata()) == [0, 1, 2]
    assert [len(line.get_xdata()) for line in accuracy.lines] == [0, 0, 0, 3]
    assert len(rates.lines) == 0


def test_an_epoch_in_which_no_head_is_right_is_one_with_a_teacher():
    record = record_of(0)
    record["train"] |= {"total": 2.5, "soft": 0.0, "reliable": 0.0}
    assert distils([record])
    assert not distils([record_of(0, heads=1)])


@pytest.mark.parametrize("epochs", [1, 2, 3, 13, 300])
@pytest.mark.parametrize("heads", [1, 4])
def test_points_are_seen_and_epochs_are_whole_and_no_name_hides_a_line(
    tmp_path, figures, epochs, heads
):
    more = {"validation": {"top1": 1.0}, "ema": {"test": {"top1": 2.0}}}
    records = [record_of(epoch, heads) | more for epoch in range(epochs)]
    draw_curves(records, tmp_path / "curves.png")
    size = figures[0].bbox
    for panel in figures[0].axes:
        drawn = [line for line in panel.lines if line.get_marker() != "*"]
        assert all((line.get_marker() == "o") == (epochs < 3) for line in drawn)
        low, high = panel.get_xlim()
        shown = [tick for tick in panel.get_xticks() if low <= tick <= high]
        assert shown and all(tick == int(tick) for tick in shown)
        if (legend := panel.get_legend()) is not None:
            box = legend.get_window_extent()
            assert not box.shrunk(0.98, 0.9).overlaps(panel.bbox)
            assert size.x0 <= box.x0 and box.x1 <= size.x1
        title = panel.title.get_window_extent()
        assert title.y1 <= size.y1
        assert not any(title.overlaps(other.bbox) for other in figures[0].axes)


def test_the_best_epoch_is_that_of_the_validation_set(tmp_path, figures):
    chosen = (50.0, 70.0, 60.0)
    records = [record_of(i) | {"validation": {"top1": top1}} for i, top1 in enumerate(chosen)]
    draw_curves(records, tmp_path / "curves.png")
    lines = {line.get_label(): line for line in figures[0].axes[1].lines}
    assert tuple(lines["validation set"].get_ydata()) == chosen
    best = lines["best epoch (1)"]
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([1], [43.0])


def test_the_averaged_network_has_a_line_of_its_own(tmp_path, figures):
    records = [record_of(i) | {"ema": {"test": {"top1": 60.0 + i}}} for i in range(3)]
    draw_curves(records, tmp_path / "curves.png")
    lines = {line.get_label(): list(line.get_ydata()) for line in figures[0].axes[1].lines}
    assert lines["ema"] == [60.0, 61.0, 62.0]
    assert "best epoch (2)" in lines


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
