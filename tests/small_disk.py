"""A coordinator's folder on a file system of 64 MB of its own, which a test fills and frees.

The fork server runs in a mount name space of its own, where a tmpfs lies over ``inside``; nothing
is left mounted when it ends. The test looks in by /proc/<pid>/root, which is ``outside``.
"""

import os
import subprocess
from pathlib import Path

import pytest

from .forked import Nursery

_MOUNT = 'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'
_WAYS = (("unshare", "-Urm"), ("unshare", "-m"))
MIB = 1 << 20


def way() -> tuple[str, ...]:
    """Return how this system gives a mount name space, or skip."""
    for each in _WAYS:
        try:
            if subprocess.run([*each, "true"], capture_output=True, check=False).returncode == 0:
                return each
        except FileNotFoundError:
            break
    pytest.skip("needs a mount of its own: unshare -Urm (user name spaces), or unshare -m as root")


class SmallDisk(Nursery):
    """A fork server whose coordinators have little room; and a filler to take it away."""

    def __init__(
        self, place: Path, *, num_mib: int, environment: dict[str, str] | None = None
    ) -> None:
        """Mount over ``place``, an empty folder."""
        mount = _MOUNT.format(size=num_mib * MIB)
        super().__init__(environment, prefix=(*way(), "sh", "-c", mount, str(place)))
        self.inside = place
        pid = self.ask(do="hello")["pid"]  # it has mounted and imported
        self.outside = Path(f"/proc/{pid}/root{place}")
        self._filler = self.outside / "filler"
        self._filler.touch()

    def free_bytes(self) -> int:
        """Return what is left."""
        told = os.statvfs(self.outside)
        return told.f_bavail * told.f_frsize

    def fill(self, num_bytes: int) -> bool:
        """Take this much more; return whether there was room for all of it."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while num_bytes > 0:
                    num_bytes -= file.write(bytes(min(num_bytes, MIB)))
            except OSError:
                return False
        return True

    def fill_up(self) -> None:
        """Leave no page."""
        for step in (MIB, 4_096):
            while self.fill(step):
                pass

    def empty(self) -> None:
        """Give it all back."""
        os.truncate(self._filler, 0)
