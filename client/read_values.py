"""Reads the numbers of a stranger's tensor file once, in pieces: alphas, NaN and infinity, hash.

Law (T8): one piece of 4 MiB in memory, whatever the header says of a tensor's size. Types that hold
no infinity (integers) or that numpy lacks (8-bit floats) are hashed and not looked into.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np

from ..core.errors import InputError
from ..core.file_values import FileValues
from ..core.rounding import DType, exact, num_not_finite
from ..core.tensor_part import tensor_part
from ..core.tensorfile import Header, TensorInfo

_PIECE: Final = 4 << 20
_FLOATS: Final = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
_WHOLE: Final = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


def read_values(path: Path, header: Header) -> FileValues:
    """Return what the numbers of the file are.

    Raises InputError: it became shorter since its header was read.
    """
    digest = hashlib.sha256()
    alphas: dict[str, float] = {}
    not_finite: dict[str, int] = {}
    with path.open("rb") as file:
        file.seek(header.data_start)
        for info in header.tensors:
            part = tensor_part(info.name)
            wrong, raw = 0, b""
            for raw in pieces(file, info):
                digest.update(raw)
                if info.dtype in _FLOATS:
                    wrong += num_not_finite(np.frombuffer(raw, _FLOATS[info.dtype]), info.dtype)
            if wrong:
                not_finite[info.name] = wrong
            if part is not None and part.role == "alpha":
                alphas[part.module] = _number(info, raw)
    return FileValues(alphas, not_finite, digest.hexdigest())


def pieces(file: BinaryIO, info: TensorInfo) -> Iterator[bytes]:
    """Give a tensor's bytes from where the file stands, 4 MiB at a time, whole numbers each.

    Raises InputError: the file became shorter since its header was read.
    """
    for start in range(0, info.size, _PIECE):
        raw = file.read(min(_PIECE, info.size - start))
        if len(raw) != min(_PIECE, info.size - start):
            raise InputError(
                f"{info.name[:80]!r} ends early",
                why="the file became shorter while it was read",
                fix="run the command again when nothing else writes the file",
                code="bad-tensor-file",
            )
        yield raw


def _number(info: TensorInfo, raw: bytes) -> float:
    """Return the one number that a tensor holds, NaN if it holds another count of them."""
    dtype = {**_FLOATS, **_WHOLE}.get(info.dtype)
    if dtype is None or len(raw) != info.size or len(raw) != np.dtype(dtype).itemsize:
        return float("nan")
    value: np.ndarray[Any, Any] = np.frombuffer(raw, dtype)
    if info.dtype in ("F16", "BF16", "F32"):
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN like any other here
            value = exact(value, cast("DType", info.dtype))
    return float(value[0])
