"""Checkpoint files: plain types and tensors, sealed with a digest, written whole or not at all.

A checkpoint is what `torch.save` writes (a zip archive), so anyone can read it with
`torch.load(path, weights_only=True)`. `torch.load` does not notice a flipped bit, so the archive's
comment (the last bytes of a zip file, which readers skip) holds "sha256:" and the hex digest of
every byte before that text. One file carries its own proof, and a rename publishes both at once.

The digest proves that a file is undamaged, not who wrote it; therefore nothing is ever read but
with `weights_only=True`, which executes no code.
"""

import hashlib
import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from util.file.atomic import write_atomically
from util.file.kind import Kind, kind_of_content
from util.file.reference_weights import from_reference

SEAL_PREFIX = b"sha256:"
SEAL_LENGTH = len(SEAL_PREFIX) + 64
ZIP_START = b"PK\x03\x04"
ZIP_END = b"PK\x05\x06"  # end-of-central-directory record: 22 bytes, then the comment


class CheckpointError(ValueError):
    """A file that cannot be used as a checkpoint: one sentence with its name and what to do."""


def save_checkpoint(state: dict[str | int, Any], path: str | os.PathLike) -> None:
    """Write `state` to `path` atomically, sealed, every tensor on the CPU.

    Args:
        state: nested dict, list and tuple of tensors, None, bool, int, float and str.
        path: file to create or replace; its folder must exist.

    Raises: ValueError for a value of another type, naming its place; OSError if the file could not
    be written: the earlier one is kept.
    """
    write_atomically(path, sealed_archive(state))


def sealed_archive(state: dict[str | int, Any]) -> bytes:
    """The bytes of a checkpoint file. Raises ValueError for values of other types."""
    if not isinstance(state, dict):
        raise ValueError(f"a checkpoint must be a dict, got {type(state).__name__}")
    buffer = io.BytesIO()
    torch.save(_plain(state, "state"), buffer)
    with buffer.getbuffer() as archive:
        assert _ends_without_comment(archive)
        archive[-2:] = struct.pack("<H", SEAL_LENGTH)
        seal = SEAL_PREFIX + hashlib.sha256(archive).hexdigest().encode()
    buffer.seek(0, io.SEEK_END)
    buffer.write(seal)
    return buffer.getvalue()


def load_checkpoint(path: str | os.PathLike) -> dict[str | int, Any]:
    """Read a file of `save_checkpoint` to the CPU, verifying its digest first.

    Raises: CheckpointError for a missing, damaged or foreign file, or one that holds objects.
    """
    return _sealed_state(_read(path), path)


def glance(path: str | os.PathLike) -> dict[str | int, Any]:
    """The entries of a checkpoint at little cost: tensors stay in the file, its digest unread.

    For what a command decides before it loads the file. Empty for weights of another program.
    Raises: CheckpointError for a file that can be neither.
    """
    try:
        with open(path, "rb") as file:
            file.seek(-SEAL_LENGTH, io.SEEK_END)
            sealed = _has_seal(file.read())
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if sealed else {}
    except Exception:  # damaged files make torch raise nearly anything
        return load_checkpoint(path)  # which says what is wrong
    if not sealed:
        load_with_model(path)
    return state if isinstance(state, dict) else {}


def load_with_model(path: str | os.PathLike) -> dict[str | int, Any]:
    """Our checkpoint, or a file of the published code as one that has the entry "model" alone.

    That entry holds network weights with our keys. Of the published code a model_weights.pth (key
    "best_net") and a bare state dict are read. They carry no digest: of zip archives the CRC of
    each tensor is verified, which torch.load skips; in the format before torch 1.6 damage cannot
    be detected.

    Raises: CheckpointError for a missing, damaged or foreign file, or no known layout of weights.
    """
    content = _read(path)
    if _has_seal(content):
        state = _sealed_state(content, path)
        if "model" not in state:
            raise CheckpointError(f"checkpoint {path} has no entry 'model'; name one that has")
        return state
    _refuse_other_kinds(content, path)
    if content.startswith(ZIP_START):
        _verify_zip(content, path)
    state = _unpickled_dict(content, path)
    if "model" in state:
        raise CheckpointError(
            f"checkpoint {path} lacks the digest at its end: it is damaged or was rewritten by "
            "another program; use an earlier checkpoint"
        )
    weights = state.get("best_net", state)
    if not isinstance(weights, dict) or not weights:
        raise CheckpointError(f"{path} holds no weights; name a file with a state_dict()")
    for key, value in weights.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path} holds no known layout of weights (entry {key!r} is a "
                f"{type(value).__name__}); expected the key 'model', the key 'best_net' or a "
                "state_dict()"
            )
    try:
        return {"model": from_reference(weights)}
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _sealed_state(content: bytes, path: str | os.PathLike) -> dict:
    digest = hashlib.sha256(memoryview(content)[:-SEAL_LENGTH]).hexdigest().encode()
    if content[-SEAL_LENGTH:] == SEAL_PREFIX + digest:
        return _unpickled_dict(content, path)
    _refuse_other_kinds(content, path)
    if _has_seal(content):
        problem = "is damaged: its content does not match its sha256 digest"
    else:
        problem = "has no digest at its end: it is truncated, damaged or of another program"
    raise CheckpointError(f"checkpoint {path} {problem}; use an earlier checkpoint")


def _plain(value: Any, place: str) -> Any:
    """A copy of `value` made of plain containers and compact CPU tensors only."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is torch.Tensor:
        tensor = value.detach().cpu()
        # A slice would drag its whole storage into the file.
        compact = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        return tensor if compact else tensor.clone()
    if kind in (list, tuple):
        return kind(_plain(item, f"{place}[{index}]") for index, item in enumerate(value))
    if kind in (dict, OrderedDict):
        for key in value:
            if type(key) not in (str, int):
                raise ValueError(
                    f"{place} has the key {key!r} of type {type(key).__name__}; "
                    "a checkpoint's keys must be str or int"
                )
        return {key: _plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    raise ValueError(
        f"{place} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold; "
        "convert it to tensors, dict, list, tuple, None, bool, int, float or str"
    )


def _read(path: str | os.PathLike) -> bytes:
    path = Path(path)
    if path.exists() and not path.is_file():
        raise CheckpointError(
            f"checkpoint {path} is a folder or a special file; name a file, such as last.pt"
        )
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path} does not exist; check the path") from None
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({error.strerror}); check its disk and permissions"
        ) from error


def _refuse_other_kinds(content: bytes, path: str | os.PathLike) -> None:
    """CheckpointError that names what a file is, if it is whole but no checkpoint."""
    kind = kind_of_content(io.BytesIO(content))
    if kind not in (None, Kind.TORCH):
        raise CheckpointError(
            f"{path} is {kind}, no checkpoint: name one that a run has saved, such as best.pt"
        )


def _has_seal(content: bytes) -> bool:
    return content[-SEAL_LENGTH:].startswith(SEAL_PREFIX)


def _ends_without_comment(archive: bytes | memoryview) -> bool:
    """Whether these bytes end as torch.save ends a file: with a bare end record."""
    return archive[-22:-18] == ZIP_END and archive[-2:] == b"\0\0"


def _verify_zip(content: bytes, path: str | os.PathLike) -> None:
    if not _ends_without_comment(content):  # a digest of ours that was cut or damaged, too
        raise CheckpointError(f"{path} is truncated or damaged at its end; obtain the file again")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a damaged archive makes zipfile raise far more than BadZipFile
        raise CheckpointError(
            f"{path} is truncated or damaged ({type(error).__name__}); obtain the file again"
        ) from error
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: its record {damaged} fails its CRC; obtain the file again"
        )


def _unpickled_dict(content: bytes, path: str | os.PathLike) -> dict:
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True, mmap=False)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is no checkpoint, or holds objects other than tensors and plain values "
            "(none was created, no code was run); save the state_dict() alone and name that file"
        ) from error
    except Exception as error:  # hostile or damaged files make torch raise nearly anything
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); use another file"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__} instead of a dict; name a file of this "
            "program or one with a state_dict()"
        )
    return state
