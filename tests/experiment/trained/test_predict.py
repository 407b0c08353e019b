"""The predict command: its answers against the network, early exit, and files that are none."""

import shutil

import numpy as np
import pytest
import torch
from torchvision.io import write_jpeg, write_png

from experiment.cifar import main as cifar
from experiment.dvs.events import Events, encode_aedat
from experiment.trained.checkpoint import load_trained
from experiment.trained.exported import Exported, describe_network, read_weights, write_weights
from experiment.trained.input_file import wanted_suffixes
from experiment.trained.predict import load_network, main, predict
from model import build_model
from model.inference.fold import fold
from tests.support.trained_run import make_checkpoint, stir
from util.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def pictures(checkpoint, tmp_path_factory):
    """A folder with the first five test images."""
    folder = tmp_path_factory.mktemp("pictures")
    data = load_trained(checkpoint, CPU).data
    for i in range(5):
        write_png(data.test[i][0], str(folder / f"{i}.png"))
    return folder


@torch.no_grad()
def test_answers_are_those_of_the_trained_network(checkpoint, pictures, capsys):
    trained = load_trained(checkpoint, CPU)
    answers = main([str(checkpoint), str(pictures), "--device", "cpu"])
    x = trained.data.to_input(torch.stack([trained.data.test[i][0] for i in range(5)]))
    probabilities = trained.net(x).softmax(1)
    assert [int(answer.label) for answer in answers] == probabilities.argmax(1).tolist()
    confidences = torch.tensor([answer.confidence for answer in answers])
    torch.testing.assert_close(confidences, probabilities.max(1).values, atol=1e-5, rtol=1e-5)
    assert {answer.steps for answer in answers} == {3}
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5 and printed[0].endswith("of 3 steps")


def test_it_stops_at_the_first_step_above_the_confidence(checkpoint, pictures):
    network, path = load_network(checkpoint, CPU), pictures / "0.png"
    levels = []
    for steps in (1, 2, 3):
        shorter = fold(load_trained(checkpoint, CPU).net)
        shorter.T = steps
        levels.append(predict(network._replace(net=shorter), path, confidence=1.0, device=CPU))
    for level in (0.0, levels[0].confidence - 1e-6, max(a.confidence for a in levels) + 1e-6):
        expected = next((a for a in levels if a.confidence > level), levels[-1])
        assert predict(network, path, confidence=level, device=CPU) == expected


def test_an_export_answers_like_its_checkpoint_and_needs_no_data(
    checkpoint, pictures, tmp_path, capsys
):
    trained = load_trained(checkpoint, CPU)
    path = tmp_path / "model.safetensors"
    write_weights(fold(trained.net), describe_network(trained.arguments, trained.description), path)
    assert main([str(path), str(pictures)]) == main([str(checkpoint), str(pictures)])
    assert capsys.readouterr().err == ""
    main([str(path), str(pictures), "--data_path", "somewhere"])
    assert "no effect of --data_path: the network knows its classes" in capsys.readouterr().err


def test_a_checkpoint_answers_with_the_names_it_knows_and_needs_no_data(
    checkpoint, pictures, tmp_path, monkeypatch, capsys
):
    state = load_checkpoint(checkpoint)
    names = [f"digit {name}" for name in state["data"]["class_names"]]
    save_checkpoint(state | {"data": state["data"] | {"class_names": names}}, tmp_path / "x.pt")
    save_checkpoint({k: v for k, v in state.items() if k != "data"}, tmp_path / "older.pt")
    plain, older = (main([path, pictures]) for path in (checkpoint, tmp_path / "older.pt"))
    assert older == plain
    monkeypatch.setattr(cifar, "data_of", lambda args: pytest.fail("the data set was read"))
    capsys.readouterr()
    answers = main([tmp_path / "x.pt", pictures, "--data_path", "nowhere"])
    assert [answer.label for answer in answers] == [f"digit {answer.label}" for answer in plain]
    assert capsys.readouterr().err.startswith("warning: no effect of --data_path: the network")


def test_a_network_is_what_its_file_holds(checkpoint, pictures, tmp_path, capsys):
    trained = load_trained(checkpoint, CPU)
    network = fold(trained.net), describe_network(trained.arguments, trained.description)
    write_weights(*network, tmp_path / "best.pt")
    shutil.copy(checkpoint, tmp_path / "model.safetensors")
    expected = main([checkpoint, pictures])
    for name in ("best.pt", "model.safetensors"):
        assert main([tmp_path / name, pictures]) == expected
    (tmp_path / "graph.nir").write_bytes(b"\x89HDF\r\n\x1a\n")
    for path, kind in ((pictures / "0.png", "a picture"), (tmp_path / "graph.nir", "an HDF5 file")):
        with pytest.raises(SystemExit) as end:
            main([path, pictures])
        assert end.value.code == 2
        assert f"error: {path} is {kind}" in capsys.readouterr().err


def test_unreadable_files_are_named_and_skipped_and_the_rest_is_answered(
    checkpoint, pictures, tmp_path, capsys
):
    whole = (pictures / "0.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    files = [tmp_path / "torn.png", tmp_path / "text.jpg", tmp_path / "empty.png",
             tmp_path / "none.png", pictures / "0.png", tmp_path / "x.aedat"]  # fmt: skip
    with pytest.raises(SystemExit) as exit_:
        main([str(checkpoint), *map(str, files)])
    assert exit_.value.code == 1
    printed = capsys.readouterr()
    assert printed.out.count("confidence") == 1
    for path in (*files[:4], files[5]):
        assert f"skipped {path}: " in printed.err
    assert printed.err.strip().endswith("5 of 6 files skipped")


def test_pictures_of_another_size_and_kind_are_fitted(checkpoint, tmp_path):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3, 51, 90), generator=generator).to(torch.uint8)
    write_jpeg(pixels, str(tmp_path / "wide.jpg"))
    (answer,) = main([str(checkpoint), str(tmp_path)])
    assert 0.1 <= answer.confidence <= 1


def test_event_recordings_are_classified_like_their_frames(tmp_path, capsys):
    torch.manual_seed(0)
    net = stir(build_model("resnet18", num_classes=3, in_channels=2, T=4, width=2)).eval()
    description = {"kind": "events", "class_names": ["a", "b", "c"], "image_size": 48}
    network = Exported(fold(net), description)
    rng = np.random.default_rng(0)
    events = Events(np.sort(rng.integers(0, 10**6, 4001)), *rng.integers(0, 128, (2, 4001)),
                    rng.integers(0, 2, 4001))  # fmt: skip
    (tmp_path / "x.aedat").write_bytes(encode_aedat(events))
    counts = np.zeros((4, 2, 128, 128), dtype=np.float32)
    for i in range(4001):
        counts[min(i // 1000, 3), events.p[i], events.y[i], events.x[i]] += 1
    np.savez(tmp_path / "x.npz", frames=counts)
    answers = [predict(network, tmp_path / name, confidence=1.0, device=CPU)
               for name in ("x.aedat", "x.npz")]  # fmt: skip
    assert answers[0][1:] == answers[1][1:]
    assert capsys.readouterr().err == ""
    special = bytes([0, 0, 0x80, 0, 0, 0, 0, 0])
    (tmp_path / "y.aedat").write_bytes(encode_aedat(events) + 2 * special)
    answer = predict(network, tmp_path / "y.aedat", confidence=1.0, device=CPU)
    assert answer[1:] == answers[0][1:]
    said = capsys.readouterr().err
    assert said == f"{tmp_path / 'y.aedat'}: 2 special events, of no pixel, are left out\n"
    assert answers[0].steps == 4
    assert wanted_suffixes(network) == (".aedat", ".npz")
    np.savez(tmp_path / "bad.npz", frames=counts[:3])
    with pytest.raises(ValueError, match="expected 4 of 2 channels"):
        predict(network, tmp_path / "bad.npz", confidence=1.0, device=CPU)


def test_a_wrong_network_file_ends_with_a_sentence_and_code_2(pictures, tmp_path, capsys):
    (tmp_path / "x.safetensors").write_text("nothing")
    for path in (tmp_path / "x.safetensors", tmp_path / "none.pt"):
        with pytest.raises(SystemExit) as exit_:
            main([str(path), str(pictures)])
        assert exit_.value.code == 2
        assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "none.safetensors")
