"""The look_inside command: what it writes and how it refuses."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiment.trained.look_inside import main
from experiment.trained.part.findings import Findings, write_events
from experiment.trained.part.inside_picture import branch_maps
from tests.support.trained_run import first_samples, make_checkpoint

FEW = ("--images", "6", "--gradient_images", "4", "--device", "cpu")
SHALLOW = ("--arch", "vgg11", "--T", "2")  # eight spiking layers


def record(epoch: int) -> dict:
    losses = {"total": 3.0, "hard": 2.0, "soft": 1.0}
    return {
        "epoch": epoch,
        "train": {**losses, "reliable": 0.5 + 0.1 * epoch, "head_top1": [50.0] * 4},
        "test": {"top1": 40.0, "head_top1": [40.0 + epoch] * 4, "firing_rate": {"stem": 0.2}},
    }


def test_pictures_numbers_and_events_are_written(tmp_path, capsys):
    path = make_checkpoint(tmp_path, *SHALLOW)
    lines = "".join(json.dumps(record(epoch)) + "\n" for epoch in range(3))
    (tmp_path / "metrics.jsonl").write_text(lines)
    result = main([str(path), *FEW, "--neuron", "stem:0,5,7", "stages.3.2:9,1,1"])
    folder = tmp_path / "look_inside-best"
    pictures = {"firing_rates", "potentials", "branch_maps", "gradient_agreement", "training"}
    for name in pictures:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    assert json.loads((folder / "look_inside.json").read_text()) == result
    assert [p["neuron"] for p in result["potentials"]] == ["stem:0,5,7", "stages.3.2:9,1,1"]
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()
    assert set(tags["images"]) == pictures
    assert len(tags["histograms"]) == 8
    reliable = [(e.step, e.value) for e in events.Scalars("training/reliable")]
    assert reliable == [(i, pytest.approx(0.5 + 0.1 * i)) for i in range(3)]
    assert events.Scalars("gradient_cosine/all")[0].value == pytest.approx(
        result["gradient_cosine"]["all"]
    )
    assert "silent: no spike on 6 test images" in capsys.readouterr().out


def test_events_of_a_run_without_a_teacher_do_not_speak_of_one(trained, tmp_path):
    alone = record(0)
    alone["train"]["total"] = alone["train"]["hard"]
    write_events(tmp_path, [], Findings([], [], {}, 0, 0), trained._replace(records=[alone]))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == [f"training/test_top1/head_{head}" for head in (1, 2, 3, 4)]


def test_events_of_an_epoch_without_an_evaluation_speak_of_none(trained, tmp_path):
    records = [record(epoch) for epoch in range(3)]
    del records[1]["test"]
    write_events(tmp_path, [], Findings([], [], {}, 0, 0), trained._replace(records=records))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("training/reliable")] == [0, 1, 2]
    assert [event.step for event in events.Scalars("training/test_top1/head_4")] == [0, 2]


@torch.no_grad()
def test_branch_maps_are_what_branches_read_and_make(trained):
    rows = branch_maps(trained.net, first_samples(trained, 1)[0])
    assert [tuple(read.shape) for read, _ in rows] == [(2, 32, 32), (4, 16, 16), (8, 8, 8)]
    for branch, (read, made) in zip(trained.net.branches, rows, strict=True):
        assert ((read * 3 - (read * 3).round()).abs() < 1e-5).all()  # spikes out of 3 steps
        torch.testing.assert_close(branch.blocks[0](read[None])[0], made)


def test_a_network_without_branches_has_no_branch_maps_not_even_old_ones(tmp_path, capsys):
    folder = tmp_path / "look_inside-best"
    folder.mkdir()
    stale = ("branch_maps.png", "training.png", "events.out.tfevents.1.x.look_inside")
    foreign = ("holiday.png", "events.out.tfevents.1.of.training")
    for name in (*stale, *foreign):
        (folder / name).touch()
    main([str(make_checkpoint(tmp_path, "--method", "rate", *SHALLOW)), *FEW])
    written = capsys.readouterr().out.splitlines()[-1].removeprefix("written: ").split(", ")
    pictures = {"firing_rates.png", "potentials.png", "gradient_agreement.png"}
    names = {Path(path).name for path in written}
    assert {path.name for path in folder.iterdir()} == names | set(foreign)
    assert {name for name in names if name.endswith(".png")} == pictures
    (events,) = names - pictures - {"look_inside.json"}
    log = EventAccumulator(str(folder / events))
    log.Reload()
    assert {f"{tag}.png" for tag in log.Tags()["images"]} == pictures
