"""A cache in files: whole, believed only by their hash, read a few rows at a time.

    <key>.safetensors    the tensors
    <key>.json           SHA-256 of that file

Laws: a file appears whole (home.py, F1), the JSON last, so a kill leaves nothing to be believed; a
file that is not what its record says is made anew. Tensors are mapped, not read: the system pages
in the rows of a batch, and ten thousand latents need no memory of ours. Cost: each file is written
once and read through once a process, for its hash. Full disks: home.py. Nothing here leaves.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..core.tensorfile import header_bytes, layout_of
from .cache import Chunks
from .home import appear, told_when_full, write_whole

_TYPES: Final = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True, slots=True)
class DiskCache:
    """Keeps `Cache` in one folder, which need not exist yet."""

    folder: Path
    _asked: set[str] = field(default_factory=set[str])

    def rows(self, key: str, count: int, chunks: Chunks) -> dict[str, Tensor]:
        """Return the mapped tensors under ``key``, written now if they are not there whole.

        Raises OrthoFedError (disk-full).
        """
        self._asked.add(key)
        path = self.folder / f"{key}.safetensors"
        found = self._whole(path)
        if found is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{key}.{os.getpid()}.tmp")  # processes of one training share
        try:
            self._write(temporary, count, chunks())
            sha256 = _sha256(temporary)
            appear(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        write_whole(path.with_suffix(".json"), json.dumps({"sha256": sha256}).encode())
        return load_file(path)

    def drop_others(self) -> None:
        """Delete what nobody asked this object for: of other settings, or cut short by a kill."""
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.name.partition(".")[0] not in self._asked:
                path.unlink()

    def _whole(self, path: Path) -> dict[str, Tensor] | None:
        try:
            record = json.loads(path.with_suffix(".json").read_bytes())
            return load_file(path) if _sha256(path) == record["sha256"] else None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None  # not there, or damaged: made anew

    def _write(self, path: Path, count: int, chunks: Iterator[Mapping[str, Tensor]]) -> None:
        first = next(chunks)
        told = [(n, _TYPES[t.dtype], (count, *t.shape[1:])) for n, t in first.items()]
        head, places = header_bytes(told, {}), {info.name: info for info in layout_of(told)}
        wanted = len(head) + sum(info.size for info in places.values())
        done = 0
        with told_when_full(path, wanted=wanted), path.open("wb") as file:
            file.write(head)
            for chunk in chain((first,), chunks):
                for name, part in chunk.items():
                    row_bytes = places[name].size // count
                    file.seek(len(head) + places[name].offset + done * row_bytes)
                    file.write(_bytes(part))
                done += len(next(iter(chunk.values())))
            file.flush()
            os.fsync(file.fileno())
        assert done == count, f"{done} rows of {count}"  # noqa: S101  # our own bug


def _bytes(part: Tensor) -> bytes:
    return part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
