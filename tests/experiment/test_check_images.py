"""--check_data names every bad image at once, trains nothing and leaves nothing behind."""

import pytest

from experiment.cifar.main import main as small_images
from experiment.imagenet.main import main
from tests.support.image_files import write_image_folder


def flags(folder, tmp_path, *more):
    return ["--check_data", "--data_path", str(folder), "--log_path", str(tmp_path / "runs"), *more]


@pytest.mark.parametrize(("reader", "workers"), [("pil", 0), ("torchvision", 2)])
def test_every_bad_image_is_listed_with_its_reason(tmp_path, capsys, reader, workers):
    folder = write_image_folder(tmp_path / "images", classes=3, train=4, val=2)
    argv = flags(folder, tmp_path, "--reader", reader, "--num_workers", str(workers), "--dummy")
    assert main(argv) == {"train": 12, "test": 6}
    said = capsys.readouterr()
    assert said.out == "12 training and 6 test images are readable\n"
    assert "no effect of --log_path, --dummy: --check_data only reads images" in said.err
    assert "--dummy reads no files" not in said.err

    torn, text = folder / "train" / "class_00" / "3.JPEG", folder / "val" / "class_02" / "1.JPEG"
    torn.write_bytes(torn.read_bytes()[:-99])
    text.write_text("<html>404</html>")
    with pytest.raises(SystemExit) as end:
        main([*argv, "--val_fraction", "0.3", "--train_per_class", "1", "--label_noise", "0.5"])
    assert end.value.code == 2
    *_, heading, first, second = capsys.readouterr().err.splitlines()
    assert heading.startswith("error: 2 of 18 images cannot be read")
    assert first.startswith(f"  {torn}: image file is truncated")
    assert second == f"  {text}: no image of a known kind, or damaged"
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_what_is_held_in_memory_is_verified_where_it_is_loaded(tmp_path, capsys):
    argv = ["--dataset", "Digits", "--log_path", str(tmp_path), "--check_data"]
    assert small_images(argv) == {"train": 1437, "test": 360}
    assert capsys.readouterr().out == "1,437 training and 360 test images are readable\n"
    assert list(tmp_path.iterdir()) == []


def test_it_is_for_one_process(tmp_path, monkeypatch, capsys):
    place = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    for name, value in {**place, "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        main(flags(tmp_path, tmp_path))
    assert end.value.code == 2
    assert "error: --check_data runs in one process" in capsys.readouterr().err
