"""Tiles: the ledger's tree and its leaves as small static files, by C2SP tlog-tiles.

    tile/<level>/<index>[.p/<width>]     the hashes of up to 256 neighbouring full subtrees of
                                         256^level leaves each, 32 bytes a hash
    tile/entries/<index>[.p/<width>]     up to 256 leaf bodies, each behind its length in 2 bytes

<index> is in groups of three digits, all but the last behind an x: 1234067 is x001/x234/067. Laws:
a full tile never changes, a tile of ``width`` below 256 is the beginning of the same tile later;
a name has one spelling, so that it can be told from a path that leads elsewhere (T10); the size
of every tile is known before it is read (T16).
Source: security.md 4.6, c2sp.org/tlog-tiles. Not here: proofs (tiled.py), files.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .errors import VerificationFailed
from .leaf import LEAF_BYTES

TILE_WIDTH: Final = 256
"""The hashes, or the leaves, of a full tile."""
ENTRIES: Final = -1
"""The level of the tiles that hold leaf bodies."""
BUNDLE_BYTES: Final = TILE_WIDTH * (2 + LEAF_BYTES)
"""The most bytes of a tile of leaf bodies; a little over the 4 MiB of security.md 5."""
_HASH: Final = 32
_LEVELS: Final = 8
_NAME = re.compile(r"tile/(entries|[0-7])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """Which tile: its level (or ``ENTRIES``), its index in the level, how many items it has."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def name(self) -> str:
        """The file's name in the public folder.

        >>> Tile(0, 1234067, 3).name, Tile(ENTRIES, 0).name
        ('tile/0/x001/x234/067.p/3', 'tile/entries/000')
        """
        groups = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            groups.insert(0, f"x{rest % 1000:03d}")
            rest //= 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        part = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(groups)}{part}"

    @property
    def full(self) -> "Tile":
        """The same tile once it is full."""
        return Tile(self.level, self.index)

    @property
    def most_bytes(self) -> int:
        """The most bytes that its file can have."""
        return self.width * (_HASH if self.level != ENTRIES else 2 + LEAF_BYTES)

    @classmethod
    def names(cls, name: str) -> bool:
        """Return whether ``name`` is a tile's, in the one spelling.

        >>> Tile.names("tile/0/001"), Tile.names("tile/0/1")
        (True, False)
        """
        try:
            cls.parse(name)
        except VerificationFailed:
            return False
        return True

    @classmethod
    def parse(cls, name: str) -> "Tile":
        """Return the tile of a name in the one spelling.

        Raises VerificationFailed ``bad-tile``.
        """
        found = _NAME.fullmatch(name)
        if found is not None:
            level = ENTRIES if found[1] == "entries" else int(found[1])
            index = int(found[2].replace("x", "").replace("/", ""))
            tile = cls(level, index, int(found[3] or TILE_WIDTH))
            if tile.name == name:
                return tile
        raise _bad("a name that no tile has")


def edge_tiles(size: int) -> tuple[Tile, ...]:
    """Return the tiles at the right edge of a tree of ``size`` leaves that are not full.

    Entries first, then level by level; a level whose last tile is full has none.
    """
    found = [Tile(ENTRIES, size >> 8, size & 0xFF)] if size & 0xFF else []
    for level in range(_LEVELS):
        hashes = size >> 8 * level
        if hashes & 0xFF:
            found.append(Tile(level, hashes >> 8, hashes & 0xFF))
    return tuple(found)


def tile_in(level: int, index: int, size: int) -> Tile:
    """Return a tile as wide as a tree of ``size`` leaves has it.

    Raises VerificationFailed ``bad-tile``: that tree has no such tile.
    """
    width = min(TILE_WIDTH, (size >> 8 * max(level, 0)) - TILE_WIDTH * index)
    if width < 1 or index < 0:
        raise _bad(f"tile {index} of a tree of {size} leaves")
    return Tile(level, index, width)


def split_hashes(data: bytes, width: int) -> tuple[bytes, ...]:
    """Return the hashes of a tile of exactly ``width``.

    Raises VerificationFailed ``bad-tile``.
    """
    if len(data) != width * _HASH:
        raise _bad(f"a tile of {len(data)} bytes for {width} hashes")
    return tuple(data[i : i + _HASH] for i in range(0, len(data), _HASH))


def join_entries(bodies: Sequence[bytes]) -> bytes:
    """Return the tile of these leaf bodies."""
    return b"".join(struct.pack(">H", len(body)) + body for body in bodies)


def split_entries(data: bytes, width: int) -> tuple[bytes, ...]:
    """Return the leaf bodies of a tile of exactly ``width``.

    Raises VerificationFailed ``bad-tile``.
    """
    found: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or end - at - 2 > LEAF_BYTES:
            raise _bad("a tile of leaves whose lengths do not fit")
        found.append(data[at + 2 : end])
        at = end
    if len(found) != width:
        raise _bad(f"a tile of {len(found)} leaves, expected are {width}")
    return tuple(found)


def _bad(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="a tile holds a known number of hashes or leaves under the one name it has",
        fix="get it again; if it stays, tell the operator",
        code="bad-tile",
    )
