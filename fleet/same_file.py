"""Tells whether a name still leads to the file that it led to before.

A process that has a database open goes on in it when its name is removed, and opens another, empty
one under the same name with its next connection: what is under the name then exists, and is not
what it was. Law: the first file is held open, so that no other can get its number. Nothing is read
of it. Threads may share it. Source: flower.md 4 (L11).
"""

import os
import threading
from pathlib import Path


class SameFile:
    """One name, and the file that it led to since ``begin``."""

    def __init__(self, path: Path) -> None:
        """Watch ``path``, which need not be there yet."""
        self._path = path
        self._lock = threading.Lock()
        self._held: int | None = None

    def begin(self) -> None:
        """Forget the file: whichever the name leads to next is the one."""
        with self._lock:
            self._let_go()

    def is_there(self) -> bool:
        """Return whether the name leads to the file that it led to at the first call."""
        with self._lock:
            try:
                if self._held is None:
                    self._held = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                return os.path.samestat(os.fstat(self._held), self._path.stat())
            except OSError:
                return False

    def _let_go(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None
