"""Reads files of the static tree that proves a ledger: over the wire, or from a pulled folder.

A ``PublicSource`` gives the bytes of one name; names are made by us, never by the other side. Laws:
the most bytes of each file are known before it is read, and a longer or endless answer is refused
(T16); what is not there raises Refused ``not-found``, so that a reader can ask for the full tile
instead of an unfinished one. Source: security.md 4.6 and 5, reliability.md 2.1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ..core.errors import Refused, VerificationFailed
from ..core.tile import ENTRIES, Tile, split_entries, split_hashes
from ..proto import methods, wire

if TYPE_CHECKING:  # verifying needs no network, so it does not load grpc
    from .channel import Channel

CHECKPOINT_BYTES: Final = 16 << 10
HEAD_BYTES: Final = 4 << 10
KEYRING_BYTES: Final = 8 << 10
MOST_KEYRINGS: Final = 64


class PublicSource(Protocol):
    """Where public files come from."""

    def read(self, name: str, most: int) -> bytes:
        """Return the file ``name``, of at most ``most`` bytes.

        Raises Refused ``not-found``. Raises VerificationFailed: it is longer.
        """
        ...


@dataclass(frozen=True, slots=True)
class WireSource:
    """The coordinator's own tree, by ReadPublic."""

    channel: "Channel"

    def read(self, name: str, most: int) -> bytes:
        """Return the file ``name``; see PublicSource."""
        data = b""
        while True:
            request = wire.PublicRequest(name, len(data), methods.READ_BYTES)
            reply = self.channel.call(methods.READ_PUBLIC, request, wire.ReadReply)
            if reply.total_bytes > most or len(data) + len(reply.data) > reply.total_bytes:
                raise _too_long(name, max(reply.total_bytes, len(data) + len(reply.data)), most)
            data += reply.data
            if len(data) == reply.total_bytes:
                return data
            if not reply.data:
                raise _too_long(name, reply.total_bytes, len(data))


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A cut of the tree in a folder, as `pull` leaves it in ``trust/``."""

    folder: Path

    def read(self, name: str, most: int) -> bytes:
        """Return the file ``name``; see PublicSource."""
        path = self.folder / name
        try:
            size = path.stat().st_size
            if size > most:
                raise _too_long(name, size, most)
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Refused(
                f"{path} is not there",
                why="the pull was not finished, or the file was removed",
                fix="pull the release again into a new folder",
                code="not-found",
            ) from error


def read_hashes(source: PublicSource, tile: Tile) -> tuple[bytes, ...]:
    """Return the hashes of a tile, from the full one where the unfinished one has gone."""
    data, there = _read_tile(source, tile)
    return split_hashes(data, there.width)[: tile.width]


def read_entries(source: PublicSource, size: int) -> tuple[bytes, ...]:
    """Return the first ``size`` leaf bodies, unchecked."""
    bodies: list[bytes] = []
    while len(bodies) < size:
        tile = Tile(ENTRIES, len(bodies) >> 8, min(256, size - len(bodies)))
        bodies += read_tile_entries(source, tile)
    return tuple(bodies)


def read_tile_entries(source: PublicSource, tile: Tile) -> tuple[bytes, ...]:
    """Return the leaf bodies of a tile, unchecked, as ``read_hashes`` its hashes."""
    data, there = _read_tile(source, tile)
    return split_entries(data, there.width)[: tile.width]


def _read_tile(source: PublicSource, tile: Tile) -> tuple[bytes, Tile]:
    """Return the bytes, and which tile they are of: this one, or the same when it was full."""
    try:
        return source.read(tile.name, tile.most_bytes), tile
    except Refused as error:
        if error.code != "not-found" or tile.full == tile:
            raise
        return source.read(tile.full.name, tile.full.most_bytes), tile.full


def _too_long(name: str, size: int, most: int) -> VerificationFailed:
    return VerificationFailed(
        f"{name} of {size} bytes, allowed are {most}",
        why="the length of every public file is bounded, and an answer has the length it names",
        fix="run the same command again later, or tell the operator",
        code="wrong-length",
    )
