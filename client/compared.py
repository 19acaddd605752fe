"""Compares one published file with the bytes that it should have, as they are made.

Law: one pass, nothing written; the first byte that differs ends it, and the error says in which
tensor it lies, and what both sides have there. The header comes last, since the hash of the data
stands in it. Cost: one piece of both sides in memory.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np

from ..core.errors import VerificationFailed
from ..core.release_file import Buffer, MadeFile, PlainFile, TensorFile
from ..core.rounding import DType, exact
from ..core.tensorfile import SIZES, layout_of, parse_header

_NUMPY: Final = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "I16": "<i2"}
_LENGTH_BYTES: Final = 8
_ALIGNED: Final = 8
"""Pieces start where an entry does, and an entry has 2 or 4 bytes: it lies in one such block."""


@dataclass(frozen=True, slots=True)
class _Difference:
    """Where two files differ first, and the 8 aligned bytes of both that hold the place."""

    offset: int
    published: bytes = b""
    made: bytes = b""


def compare_plain(path: Path, file: PlainFile) -> None:
    """Compare a file that is no tensor file.

    Raises VerificationFailed: it differs, is too short or too long.
    """
    with path.open("rb") as published:
        found = _compare(published, file.data)
    if found is not None:
        copied = ", where it is to be the base model's own file" if file.copied else ""
        raise differs(f"{file.name} differs at byte {found.offset}{copied}")


def compare_tensors(path: Path, file: TensorFile) -> MadeFile:
    """Compare a safetensors file and return what info.json should say of it.

    Raises VerificationFailed: header or data differ.
    """
    blank, size, digest = file.header(), path.stat().st_size, hashlib.sha256()

    def hashed() -> Iterator[Buffer]:
        for piece in file.data:
            digest.update(piece)
            yield piece

    with path.open("rb") as published:
        header = published.read(len(blank))
        _check_sizes(header, file, blank, size)
        found = _compare(published, hashed())
    if found is not None:
        raise differs(f"{file.name} differs in {_place(file, found)}")
    made = file.header(digest.hexdigest())
    if header != made:
        raise differs(f"the header of {file.name} differs in {_key(header, made, size)}")
    return file.made(digest.hexdigest())


def differs(what: str) -> VerificationFailed:
    """Return the error for a file that is not what the contributions give."""
    return VerificationFailed(
        what,
        why="the release was signed over something else than what its contributions give",
        fix="do not use this release; keep the folder and tell the operator",
        code="not-rebuilt",
    )


def _compare(published: BinaryIO, data: Iterable[Buffer]) -> _Difference | None:
    offset = 0
    for piece in data:
        made = bytes(piece)
        found = published.read(len(made))
        if found != made:
            pairs = zip(found, made, strict=False)
            at = next((i for i, (one, other) in enumerate(pairs) if one != other), len(found))
            block = slice(at // _ALIGNED * _ALIGNED, at // _ALIGNED * _ALIGNED + _ALIGNED)
            return _Difference(offset + at, found[block], made[block])
        offset += len(made)
    return _Difference(offset) if published.read(1) else None


def _check_sizes(header: bytes, file: TensorFile, blank: bytes, size: int) -> None:
    """Say it first when names, types or shapes differ so that every offset does."""
    tensors = layout_of(file.entries, keep_order=file.keep_order)
    length = len(blank) + sum(info.size for info in tensors)
    if size != length or header[:_LENGTH_BYTES] != blank[:_LENGTH_BYTES]:
        raise differs(f"{file.name} has {size} bytes, its contributions give {length}")


def _place(file: TensorFile, found: _Difference) -> str:
    """Return the tensor and the entry that differ, and both sides' values."""
    tensors = layout_of(file.entries, keep_order=file.keep_order)
    info = next(i for i in tensors if i.offset <= found.offset < i.offset + i.size)
    entry = (found.offset - info.offset) // SIZES[info.dtype]
    sides = [np.frombuffer(side, _NUMPY[info.dtype]) for side in (found.published, found.made)]
    at = int(np.flatnonzero(sides[0] != sides[1])[0])
    values = [float(exact(side[at : at + 1], cast("DType", info.dtype))[0]) for side in sides]
    told = f"{values[0]:.6g} published, {values[1]:.6g} rebuilt"
    return f"tensor {info.name}, entry {entry}: {told}"


def _key(published: bytes, made: bytes, size: int) -> str:
    """Return what of two headers of one length differs first, by name."""
    sides = [parse_header(header, file_size=size) for header in (published, made)]
    found, wanted = ({**side.metadata, **{t.name: t for t in side.tensors}} for side in sides)
    wrong = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return wrong[0] if wrong else "its spelling"
