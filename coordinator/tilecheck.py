"""Compares the public tiles with the ledger's leaves: names each one that differs or is missing.

Laws: a tile that is there is exactly what the leaves give, at whatever width; for the published
size every full tile is there, and each unfinished one at that width or wider. Given are the names
that were there before the database was copied, so a tile is never newer than the leaves. Cost:
reading all leaves once. Source: reliability.md 2.7, R16. Not here: writing them (tiles.py).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core import merkle
from ..core.errors import VerificationFailed
from ..core.tile import ENTRIES, TILE_WIDTH, Tile, join_entries

REPAIR = "; delete public/checkpoint and start the coordinator: it writes all tiles anew"


def check_tiles(
    db: sqlite3.Connection, public: Path, names: Sequence[str], size: int
) -> Iterator[tuple[str, str]]:
    """Give name and fault of each wrong tile of ``public``; ``size`` leaves are published."""
    levels = _levels(db)
    widest: dict[tuple[int, int], int] = {}
    for name in names:
        try:
            tile = Tile.parse(name)
        except VerificationFailed:
            yield name, "belongs to nothing that was signed"
            continue
        try:
            data = (public / name).read_bytes()
        except FileNotFoundError:
            continue  # dropped since, for a wider one
        place = tile.level, tile.index
        widest[place] = max(widest.get(place, 0), tile.width)
        if data != _wanted(db, levels, tile):
            yield name, f"is not what the ledger says{REPAIR}"
    for tile in _needed(size):
        if widest.get((tile.level, tile.index), 0) < tile.width:
            yield tile.name, f"is missing{REPAIR}"


def _levels(db: sqlite3.Connection) -> list[list[bytes]]:
    """Return the hashes of all full subtrees of 256^level leaves, level by level."""
    levels = [[row[0] for row in db.execute("SELECT hash FROM leaf ORDER BY idx")]]
    while len(levels[-1]) >= TILE_WIDTH:
        below = levels[-1]
        ends = range(TILE_WIDTH, len(below) + 1, TILE_WIDTH)
        levels.append([merkle.root(below[end - TILE_WIDTH : end]) for end in ends])
    return levels


def _wanted(db: sqlite3.Connection, levels: list[list[bytes]], tile: Tile) -> bytes | None:
    start, end = tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + tile.width
    if tile.level >= len(levels) or end > len(levels[max(tile.level, 0)]):
        return None
    if tile.level != ENTRIES:
        return b"".join(levels[tile.level][start:end])
    query = "SELECT body FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx"
    return join_entries([row[0] for row in db.execute(query, (start, end))])


def _needed(size: int) -> Iterator[Tile]:
    """Give every tile of a tree of ``size`` leaves."""
    for level in (ENTRIES, *range(8)):
        hashes = size >> 8 * max(level, 0)
        for index in range(-(-hashes // TILE_WIDTH)):
            yield Tile(level, index, min(TILE_WIDTH, hashes - TILE_WIDTH * index))
