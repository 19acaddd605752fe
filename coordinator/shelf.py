"""ListReleases, GetManifest and Read: published releases, as anyone may have them.

Laws: only what a published manifest lists can be read, and a name is looked up there before any
path is made of it (T10); a release never changes, so what was looked up stays true. Files of a
release are ordinary files: any HTTP server can give them instead.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ..core.document import parse
from ..core.errors import Refused
from ..core.release import ReleaseManifest
from ..proto import wire
from . import publications
from .house import House
from .publications import Published

_KEPT = 8
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class _Release:
    """One release and the length of each of its files."""

    published: Published
    lengths: dict[str, int]


class Shelf:
    """The calls of the service Releases."""

    def __init__(self, house: House) -> None:
        """Read what the house has published."""
        self._house = house
        self._lock = Lock()
        self._kept: OrderedDict[int, _Release] = OrderedDict()

    def list(self, _key: str, _request: wire.ListRequest) -> wire.ListReply:
        """Name the releases."""
        numbers = self._house.store.run(publications.numbers)
        return wire.ListReply(numbers, numbers[-1] if numbers else 0)

    def manifest(self, _key: str, request: wire.ManifestRequest) -> wire.ManifestReply:
        """Give one manifest with its proof; 0 is the newest."""
        n = request.n
        if n == 0:
            numbers = self._house.store.run(publications.numbers)
            n = numbers[-1] if numbers else 0
        release = self._release(n)
        return wire.ManifestReply(
            document=release.published.document,
            receipt=release.published.receipt,
            spec=self._house.facts.spec.to_bytes(),
            keyrings=self._house.facts.keyrings,
        )

    def read(self, _key: str, request: wire.ReadRequest) -> wire.ReadReply:
        """Give one piece of one file."""
        release = self._release(request.n)
        if request.name == _MANIFEST:
            document = release.published.document
            piece = document[request.offset : request.offset + request.length]
            return _piece(request, piece, len(document))
        if request.name not in release.lengths:  # T10
            raise _absent(f"release {request.n} has no such file")
        path = self._house.folder.releases / str(request.n) / request.name
        return _piece(request, _read(path, request), release.lengths[request.name])

    def _release(self, n: int) -> _Release:
        with self._lock:
            if n in self._kept:
                self._kept.move_to_end(n)
                return self._kept[n]
        published = self._house.store.run(lambda db: publications.published(db, n))
        if published is None:
            raise _absent(f"there is no release {n}" if n else "nothing is released yet")
        signed = parse(published.document, kind="release")
        manifest = ReleaseManifest.from_document(signed)
        release = _Release(published, {file.name: file.bytes for file in manifest.files})
        with self._lock:
            self._kept[n] = release
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return release


def _read(path: Path, request: wire.ReadRequest) -> bytes:
    if request.offset >= 1 << 62:
        return b""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, request.length, request.offset)
    finally:
        os.close(fd)


def _piece(request: wire.ReadRequest, data: bytes, total: int) -> wire.ReadReply:
    if request.offset > total:
        raise wire.malformed(f"offset {request.offset} in a file of {total} bytes")
    return wire.ReadReply(data=data, total_bytes=total)


def _absent(what: str) -> Refused:
    return Refused(
        what,
        why="only what a published manifest lists can be read",
        fix="list the releases, and read the names that a manifest gives",
        code="no-such-release",
    )
