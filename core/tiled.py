"""Proofs from tiles: any inclusion or consistency proof for O(log n) small files.

Law: what tiles say is worth nothing by itself, since whoever serves them can write anything; a
proof made here counts when core/merkle.py has led it to a signed root. The hash of any full subtree
lies in one tile, or is the root over neighbours in it. Cost: a proof reads at most one tile a level
and a branch, and hashes at most 256 times for each.
Source: c2sp.org/tlog-tiles. Not here: where tiles come from; ``read`` is given a tile and returns
its hashes.
"""

from collections.abc import Callable

from . import merkle
from .tile import TILE_WIDTH, Tile, tile_in

ReadTile = Callable[[Tile], tuple[bytes, ...]]


class TiledTree:
    """A tree of ``size`` leaves whose hashes lie in tiles; each tile is read once."""

    def __init__(self, size: int, read: ReadTile) -> None:
        """Keep the reader; nothing is read yet."""
        self.size = size
        self._read = read
        self._tiles: dict[tuple[int, int], tuple[bytes, ...]] = {}

    def root(self, size: int) -> bytes:
        """Return the root of the first ``size`` leaves, 1 to the tree's own size."""
        return self._subtree(0, size)

    def inclusion_proof(self, index: int) -> tuple[bytes, ...]:
        """Return the proof of leaf ``index`` in the whole tree, the leaf's sibling first."""
        return tuple(self._subtree(*part) for part in merkle.inclusion_path(index, self.size))

    def consistency_proof(self, old_size: int) -> tuple[bytes, ...]:
        """Return the proof that the whole tree continues its first ``old_size`` leaves."""
        return tuple(self._subtree(*part) for part in merkle.consistency_path(old_size, self.size))

    def _subtree(self, start: int, end: int) -> bytes:
        """Return the root over leaves ``start`` to ``end``, a range that RFC 6962 splits into."""
        width = end - start
        if width & (width - 1) == 0:
            return self._full(width.bit_length() - 1, start // width)
        middle = start + merkle.left(width)
        return merkle.node_hash(self._subtree(start, middle), self._subtree(middle, end))

    def _full(self, height: int, index: int) -> bytes:
        level, inside = divmod(height, 8)
        tile, place = divmod(index << inside, TILE_WIDTH)
        if (level, tile) not in self._tiles:
            self._tiles[level, tile] = self._read(tile_in(level, tile, self.size))
        return merkle.root(self._tiles[level, tile][place : place + (1 << inside)])
