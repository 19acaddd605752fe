"""Writes the copy of `orthofed doctor FILE --fix OUT` that core/file_fix.py describes.

Laws: the given file is only read, and OUT is a new file or none: what stops half-way is removed.
Cost: one piece of a tensor in memory, one pass over the bytes.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np

from ..core.errors import InputError
from ..core.file_fix import FileFix, FixedTensor
from ..core.metadata_rules import kept_metadata
from ..core.rounding import DType, exact, round_once
from ..core.shown import shown
from ..core.tensorfile import WIDE, Header, header_bytes
from .home import told_when_full
from .read_values import pieces

_NUMPY: Final = {"F16": "<f2", "BF16": "<u2", "F32": "<f4"}


def write_fixed(path: Path, header: Header, fix: FileFix, out: Path) -> None:
    """Write the copy of ``path`` to ``out``.

    Raises InputError: ``out`` is there, or the file changed while it was read; OrthoFedError
    (disk-full).
    """
    if out.exists() or out.is_symlink():
        raise InputError(
            f"{shown(str(out), 200)} is already there",
            why="the copy is a new file, and nothing is overwritten",
            fix="give --fix the path of a file that does not exist",
            code="file-exists",
        )
    entries = [(each.name, each.dtype, each.shape) for each in fix.tensors]

    def top(digest: str) -> bytes:
        kept = kept_metadata(header.metadata, tensor_hash=digest)
        said = {key: value for key, value in kept.items() if key not in fix.dropped}
        return header_bytes(entries, said, sizes=WIDE.sizes)

    digest = hashlib.sha256()
    with told_when_full(out, wanted=0), out.open("xb") as written:
        try:  # from here on the file is ours to remove
            written.write(top("0" * 64))
            with path.open("rb") as file:
                for tensor in fix.tensors:
                    for piece in _data(file, header, tensor):
                        written.write(piece)
                        digest.update(piece)
            written.seek(0)
            written.write(top(digest.hexdigest()))
        except BaseException:
            out.unlink()
            raise


def _data(file: BinaryIO, header: Header, tensor: FixedTensor) -> Iterator[bytes]:
    dtype = cast("DType", tensor.dtype)
    if tensor.source is None:
        yield round_once(np.array(tensor.alpha, np.float64), dtype).tobytes()
        return
    source = tensor.source
    file.seek(header.data_start + source.offset)
    for raw in pieces(file, source):
        if source.dtype == tensor.dtype:
            yield raw
        else:
            stored = np.frombuffer(raw, _NUMPY[source.dtype])
            yield round_once(exact(stored, cast("DType", source.dtype)), dtype).tobytes()
