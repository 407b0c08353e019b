"""Old content or new content, never anything between."""

import errno
import os
from functools import partial

import pytest

from util.file.atomic import write_atomically

WRITING_CALLS = ("open", "write", "fsync", "close", "replace")


def test_content_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "file"
    for content in (b"first", b"", b"the second, longer one"):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert os.listdir(tmp_path) == ["file"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:3]))
    write_atomically(tmp_path / "file", b"ten bytes.")
    assert (tmp_path / "file").read_bytes() == b"ten bytes."


def test_what_a_killed_writer_left_is_removed_and_not_written_into(tmp_path):
    (tmp_path / "other").write_bytes(b"in use, and longer")
    os.link(tmp_path / "other", tmp_path / "file.tmp")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "other").read_bytes() == b"in use, and longer"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


@pytest.mark.parametrize("leftover", [False, True])
@pytest.mark.parametrize("linkable", [True, False])
def test_a_file_can_become_a_second_name_of_another(tmp_path, monkeypatch, linkable, leftover):
    def refuse(*args):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if not linkable:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "other").write_bytes(b"content")
    (tmp_path / "file").write_bytes(b"old")
    if leftover:
        (tmp_path / "file.tmp").write_bytes(b"of a killed writer")
    write_atomically(tmp_path / "file", b"content", same_as=tmp_path / "other")
    assert os.path.samefile(tmp_path / "file", tmp_path / "other") is linkable
    assert (tmp_path / "file").read_bytes() == b"content"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


def test_the_bytes_are_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    events = []

    def record(name, call, *args, **kwargs):
        events.append(name)
        return call(*args, **kwargs)

    with monkeypatch.context() as patch:
        for name in WRITING_CALLS:
            patch.setattr(os, name, partial(record, name, getattr(os, name)))
        write_atomically(tmp_path / "file", b"new", before_rename=lambda: events.append("hook"))
    assert " ".join(events) == "open write fsync close hook replace open fsync close"


@pytest.mark.parametrize("call", WRITING_CALLS)
def test_a_failing_call_keeps_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError) as failure:
        patch.setattr(os, call, fail)
        write_atomically(path, b"x" * 12345)
    assert str(failure.value) == f"could not write {path} (12,345 bytes): No space left on device"
    assert failure.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone/file \(3 bytes\)"):
        write_atomically(tmp_path / "gone" / "file", b"new")
