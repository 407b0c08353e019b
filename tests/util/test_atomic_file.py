"""Old content or new content, never anything between."""

import errno
import os
import resource

import pytest

from util.atomic_file import write_atomically

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
    write_atomically(tmp_path / "file", memoryview(b"ten bytes."))
    assert (tmp_path / "file").read_bytes() == b"ten bytes."


def test_leftovers_of_a_killed_writer_are_overwritten(tmp_path):
    (tmp_path / "file.tmp").write_bytes(b"x" * 1000)
    write_atomically(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_leftover_that_another_name_shares_is_not_written_into(tmp_path):
    (tmp_path / "other").write_bytes(b"in use")
    os.link(tmp_path / "other", tmp_path / "file.tmp")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "other").read_bytes() == b"in use"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file.tmp").exists()


@pytest.mark.parametrize("linkable", [True, False])
def test_a_file_can_become_a_second_name_of_another(tmp_path, monkeypatch, linkable):
    if not linkable:
        monkeypatch.setattr(os, "link", refuse)
    write_atomically(tmp_path / "other", b"content")
    for leftover in (False, True):
        (tmp_path / "file").write_bytes(b"old")
        if leftover:
            (tmp_path / "file.tmp").write_bytes(b"of a killed writer")
        write_atomically(tmp_path / "file", b"content", same_as=tmp_path / "other")
        assert os.path.samefile(tmp_path / "file", tmp_path / "other") is linkable
        assert (tmp_path / "file").read_bytes() == b"content"
        assert sorted(os.listdir(tmp_path)) == ["file", "other"]
        (tmp_path / "file").unlink()


def refuse(*args):
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_the_bytes_are_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    events = []
    for name in WRITING_CALLS:
        call = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, _n=name, _c=call, **kw: (events.append(_n), _c(*args, **kw))[1]
        )
    write_atomically(tmp_path / "file", b"new", before_rename=lambda: events.append("hook"))
    monkeypatch.undo()
    assert " ".join(events) == "open write fsync close hook replace open fsync close"


@pytest.mark.parametrize("call", WRITING_CALLS)
def test_a_failing_call_keeps_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError) as failure:
        write_atomically(path, b"x" * 12345)
    monkeypatch.undo()
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


def test_a_refusal_of_the_kernel_in_mid_file(tmp_path):
    """A real one: the process may not write files above 64 KiB."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(OSError, match=r"200,000 bytes\): File too large"):
            write_atomically(path, bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone/file \(3 bytes\)"):
        write_atomically(tmp_path / "gone" / "file", b"new")
