"""ReadPublic: the files of ``public/`` that prove the ledger, by the names they have there.

Law: a name is taken only if it is, letter by letter, one that the static tree can have; so no name
of a caller becomes a path that leads elsewhere (T10). Any HTTP server can give the same files
instead. Not here: the files of releases (shelf.py), writing (heads.py, tiles.py).
"""

import os
import re

from ..core.errors import Refused
from ..core.tile import Tile
from ..proto import wire
from .house import House

_FIXED = re.compile(r"checkpoint|head\.json|spec\.json|keyring/[1-9][0-9]?\.json")


class StaticTree:
    """The call ReadPublic."""

    def __init__(self, house: House) -> None:
        """Read what the house has written."""
        self._public = house.folder.public

    def read(self, _key: str, request: wire.PublicRequest) -> wire.ReadReply:
        """Give one piece of one file."""
        if not _is_name(request.name):  # T10
            raise _absent()
        try:
            fd = os.open(self._public / request.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _absent() from error
        try:
            total = os.fstat(fd).st_size
            if request.offset > total:
                raise wire.malformed(f"offset {request.offset} in a file of {total} bytes")
            return wire.ReadReply(os.pread(fd, request.length, request.offset), total)
        finally:
            os.close(fd)


def _is_name(name: str) -> bool:
    return _FIXED.fullmatch(name) is not None or Tile.names(name)


def _absent() -> Refused:
    return Refused(
        "there is no such public file",
        why="the tree has checkpoint, head.json, spec.json, keyring/N.json and tiles of leaves"
        " that were published",
        fix="read the checkpoint first, and the tiles of its size",
        code="not-found",
    )
