"""Writes the ledger's tiles into ``public/``: what a reader proves things from, without asking us.

Laws: tiles are written after COMMIT from the database, before the checkpoint that needs them
(reliability.md 2.5 d), each whole or not at all (F1); a full tile never changes. What is there is
taken up again at a start if the newest checkpoint in the folder is ours, the tiles at its edge lead
to its root, and the database continues it; otherwise, as after a fork or for a folder of an older
version, all are written anew. So deleting ``public/checkpoint`` repairs any tile. Cost: O(log n)
small files a publication, however many leaves it brings; a start reads the edge alone.
Source: security.md 4.6, c2sp.org/tlog-tiles. Names and contents: core/tile.py.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core import merkle
from ..core.checkpoint import open_checkpoint
from ..core.errors import OrthoFedError
from ..core.merkle import Peaks
from ..core.tile import (
    ENTRIES,
    TILE_WIDTH,
    Tile,
    edge_tiles,
    join_entries,
    split_hashes,
)
from .fs import Fs
from .ledger import peaks
from .store import Store

_KEPT_PARTS = 16
"""Unfinished states of one tile that stay, for readers who hold a slightly older checkpoint."""

Edge = tuple[tuple[bytes, ...], ...]
"""For each level the hashes of its unfinished tile."""


class Tiles:
    """The tiles of one ledger in one public folder. For one thread at a time."""

    def __init__(self, store: Store, public: Path, *, fs: Fs, ledger_key: str, log: str) -> None:
        """Take up what is there; ``ledger_key`` and ``log`` (hex) tell our checkpoint."""
        self._store = store
        self._public = public
        self._fs = fs
        self._known: set[Path] = set()
        self._parts: set[Tile] = set()
        self._spent: set[Path] = set()
        self.size = 0
        self._edge: Edge = ()
        with contextlib.suppress(OrthoFedError, OSError):
            found = open_checkpoint((public / "checkpoint").read_bytes(), ledger_key, log)
            edge = self._read_edge(found.size)
            if store.run(lambda db: _continues(db, edge, found.size, found.root)):
                self.size, self._edge = found.size, edge
                return
        shutil.rmtree(public / "tile", ignore_errors=True)

    def grow(self, size: int) -> None:
        """Write the tiles of the first ``size`` leaves; those that are there stay."""
        if size <= self.size:
            return
        for parts in self._spent:  # the checkpoint that needed them was replaced since
            shutil.rmtree(parts, ignore_errors=True)
            self._known.discard(parts)
        self._spent.clear()
        edge = [list(hashes) for hashes in self._edge]
        for index in range(self.size >> 8, (size - 1 >> 8) + 1):
            start, end = index << 8, min((index + 1) << 8, size)
            rows = self._store.run(lambda db, a=start, b=end: _rows(db, a, b))
            self._write(Tile(ENTRIES, index, end - start), join_entries([r[0] for r in rows]))
            for place in range(max(start, self.size), end):
                self._push(edge, 0, rows[place - start][1], place + 1)
        for level, hashes in enumerate(edge):
            tile = Tile(level, size >> 8 * (level + 1), len(hashes))
            if hashes and tile not in self._parts:
                self._write(tile, b"".join(hashes))
        self._parts = set(edge_tiles(size))
        # Only now: after a full disk the same call begins again at the same leaf.
        self.size, self._edge = size, tuple(tuple(hashes) for hashes in edge)

    def _push(self, edge: list[list[bytes]], level: int, found: bytes, size: int) -> None:
        """Add one hash to a level; a tile that is full is written, its root goes one level up."""
        if level == len(edge):
            edge.append([])
        edge[level].append(found)
        if len(edge[level]) == TILE_WIDTH:
            self._write(Tile(level, (size >> 8 * (level + 1)) - 1), b"".join(edge[level]))
            root = merkle.root(edge[level])
            edge[level] = []
            self._push(edge, level + 1, root, size)

    def _write(self, tile: Tile, data: bytes) -> None:
        path = self._public / tile.name
        self._make_folder(path.parent)
        self._fs.write_whole(path, data)
        parts = self._public / f"{tile.full.name}.p"
        if tile.width < TILE_WIDTH:
            older = sorted(p for p in map(_width, parts.iterdir()) if 0 < p <= tile.width)
            for width in older[:-_KEPT_PARTS]:
                self._fs.remove(parts / str(width))
        elif parts.is_dir():
            self._spent.add(parts)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it durably; drop what a killed process left in it."""
        if folder in self._known:
            return
        if folder != self._public:
            self._make_folder(folder.parent)
            self._fs.make_folder(folder)
            self._fs.remove_temporaries(folder)
        self._known.add(folder)

    def _read_edge(self, size: int) -> Edge:
        """Return the unfinished tiles of ``size`` leaves as they lie in the folder."""
        edge: list[tuple[bytes, ...]] = []
        for tile in edge_tiles(size):
            data = (self._public / tile.name).read_bytes()
            if tile.level != ENTRIES:
                edge += [()] * (tile.level - len(edge))
                edge.append(split_hashes(data, tile.width))
        return tuple(edge)


def _continues(db: sqlite3.Connection, edge: Edge, size: int, root: bytes) -> bool:
    """Return whether the edge leads to the signed root, and the database goes on from there."""
    tree, now = _tree(edge, size), peaks(db)
    if tree.root != root or size > now.size:
        return False
    for (leaf,) in db.execute("SELECT hash FROM leaf WHERE idx >= ? ORDER BY idx", (size,)):
        tree = tree.append(leaf)
    return tree == now


def _tree(edge: Edge, size: int) -> Peaks:
    """Return the tree whose unfinished tiles are ``edge``."""
    found: list[bytes] = []
    for hashes in reversed(edge):
        inside = Peaks()
        for each in hashes:
            inside = inside.append(each)
        found += inside.hashes
    return Peaks(size, tuple(found))


def _rows(db: sqlite3.Connection, start: int, end: int) -> Sequence[tuple[bytes, bytes]]:
    query = "SELECT body, hash FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx"
    return db.execute(query, (start, end)).fetchall()


def _width(path: Path) -> int:
    return int(path.name) if path.name.isdecimal() else 0


def tile_files(public: Path) -> Iterator[str]:
    """Give the names of the files below ``public/tile``, temporary ones left out."""
    for path in sorted((public / "tile").rglob("*")):
        if path.is_file() and not path.name.endswith(".tmp"):
            yield path.relative_to(public).as_posix()
