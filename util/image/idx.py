"""The IDX files of the MNIST family: a big-endian header, then unsigned bytes.

Header: two zero bytes, the type (8 = unsigned byte), the number of dimensions, then each
dimension as a 32-bit integer. Source: LeCun, Cortes and Burges, "The MNIST database", file
formats. A name ending in .gz is read through gzip.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

UNSIGNED_BYTE = 8


def read_idx(path: Path, *, dimensions: int) -> Tensor:
    """The uint8 array in `path`, which must have `dimensions` dimensions and be complete.

    Raises ValueError, naming the file and what to do, for a damaged, truncated or foreign file.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    expected = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != expected:
        raise _damaged(path, f"it begins with {content[:4].hex()!r}, not {expected.hex()!r}")
    header_size = 4 + 4 * dimensions
    if len(content) < header_size:
        raise _damaged(path, f"it ends inside its header, after {len(content)} bytes")
    shape = struct.unpack(f">{dimensions}I", content[4:header_size])
    announced, found = math.prod(shape), len(content) - header_size
    if announced != found:
        raise _damaged(path, f"its header announces {announced} bytes of data, it has {found}")
    values = np.frombuffer(content, dtype=np.uint8, offset=header_size)
    return torch.from_numpy(values.reshape(shape).copy())


def _damaged(path: Path, cause: str) -> ValueError:
    return ValueError(f"{path} is not a whole IDX file ({cause}): delete it and fetch it again")
