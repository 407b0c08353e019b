"""What is written down is whole, valid JSON, and can be taken back to a checkpoint."""

import errno
import json
import os
import resource

import pytest

from util.file.record import MetricsFile, write_json


def test_json_comes_back(tmp_path):
    content = {"lr": 0.1, "v_reset": None, "archs": ["resnet18"], "name": "ζ"}
    write_json(tmp_path / "config.json", content)
    assert json.loads((tmp_path / "config.json").read_text()) == content
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_values_that_json_lacks_are_refused(tmp_path, value):
    write_json(tmp_path / "config.json", {"old": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "config.json", {"a": [value]})
    with pytest.raises(ValueError, match="JSON"):
        MetricsFile(tmp_path / "metrics.jsonl").append({"a": value})
    assert json.loads((tmp_path / "config.json").read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.fixture
def metrics(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for epoch in range(5):
        metrics.append({"epoch": epoch, "text": "line\nbreak\r\u2028"})
    return metrics


def test_one_object_per_line(metrics):
    lines = metrics.path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2, 3, 4]
    assert metrics.read() == [json.loads(line) for line in lines]


def test_a_line_is_on_the_disk_when_append_returns(metrics, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file)), fsync(file)))
    metrics.append({"epoch": 5})
    assert [stat.st_ino for stat in synced] == [os.stat(metrics.path).st_ino]
    assert synced[0].st_size == metrics.path.stat().st_size


@pytest.mark.parametrize("torn", [b"", b'{"epoch": 5, "lo'])
@pytest.mark.parametrize("count", range(6))
def test_a_resumed_file_equals_an_unbroken_one(metrics, count, torn):
    unbroken = metrics.path.read_bytes()
    with open(metrics.path, "ab") as file:
        file.write(torn)
    assert len(metrics.read()) == 5
    metrics.truncate_to(count)
    assert len(metrics.read()) == count
    for epoch in range(count, 5):
        metrics.append({"epoch": epoch, "text": "line\nbreak\r\u2028"})
    assert metrics.path.read_bytes() == unbroken


def test_lines_that_are_missing_are_an_error(metrics, tmp_path):
    with open(metrics.path, "ab") as file:
        file.write(b'{"torn": ')
    before = metrics.path.read_bytes()
    with pytest.raises(ValueError, match=r"holds 5 whole lines.* after 6"):
        metrics.truncate_to(6)
    assert metrics.path.read_bytes() == before

    missing = MetricsFile(tmp_path / "missing.jsonl")
    missing.truncate_to(0)
    assert missing.read() == []
    with pytest.raises(ValueError, match="holds 0 whole lines"):
        missing.truncate_to(1)


def test_a_full_disk_tears_no_line(metrics):
    """The kernel takes the first 100 bytes of the line."""
    before = metrics.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(OSError) as failure:
            metrics.append({"text": "x" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.value.errno == errno.EFBIG
    assert str(failure.value).startswith(f"could not append 1,013 bytes to {metrics.path}")
    assert metrics.path.read_bytes() == before


def test_a_deleted_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"append 13 bytes to .*gone/metrics\.jsonl"):
        MetricsFile(tmp_path / "gone" / "metrics.jsonl").append({"epoch": 5})
