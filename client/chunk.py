"""One chunk of a file on its way: what of it is there, its hash so far, and what became of it.

Laws: its bytes are hashed as they come and lie on the disk before they count; it is whole when its
hash is the signed one; what is not is dropped. Whoever adds bytes holds ``lock``.
"""

import hashlib
import threading
from collections.abc import Callable

from .part_file import PartFile

Tell = Callable[[int], None]
"""Hears how many more bytes are there; fewer, when it is negative."""


class Chunk:
    """The chunk ``index`` of ``part``; ``done`` once it is whole, or has failed with ``error``."""

    def __init__(self, part: PartFile, index: int, tell: Tell) -> None:
        """Name it; nothing is read."""
        self.part = part
        self.index = index
        self.start, self.end = part.span(index)
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.filled = 0
        self._tell = tell
        self._digest = hashlib.sha256()
        self._begun = False

    @property
    def left(self) -> int:
        """How many bytes are missing."""
        return self.end - self.start - self.filled

    def begin(self) -> None:
        """Hash what an earlier process left, once."""
        if self._begun:
            return
        self._begun = True
        for data in self.part.pieces(self.index, self.part.filled(self.index)):
            self._digest.update(data)
            self.filled += len(data)
        if self.filled:
            self._tell(self.filled)

    def add(self, data: bytes | memoryview) -> None:
        """Write and hash the next bytes."""
        self.part.write(self.index, self.filled, data)
        self._digest.update(data)
        self.filled += len(data)
        self._tell(len(data))

    def is_whole(self) -> bool:
        """Return whether all of it came and is what was signed; what is not is dropped."""
        if self.left:
            return False
        if self._digest.hexdigest() == self.part.wanted.entry.chunks[self.index]:
            self.done.set()
            return True
        self.drop()
        return False

    def drop(self) -> None:
        """Throw away what is there."""
        self.part.drop(self.index)
        self._tell(-self.filled)
        self._digest, self.filled = hashlib.sha256(), 0
