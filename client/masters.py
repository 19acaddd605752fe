"""The secrets that every key of one home is derived from: the first one, and those of rotations.

    home/master.key, master-1.key, ...    one 32-byte master an epoch, as hex, mode 0600
    home/master-next.key                  drawn for a rotation that is under way
    home/counter, counter-1, ...          of each: the next client key, raised before it is used

Laws: a master is drawn from the system's generator once and never replaced; the newest one is that
of the highest epoch, and a rotation ends with one rename, so a kill leaves the old newest or the
new one and nothing else; an old master stays, since its client keys alone can withdraw what was
contributed under them; each master counts its client keys from 0, so one that comes back from a
backup alone finds them all (recovery.py). Not here: telling the coordinator (rotation.py).
Source: security.md 3.
"""

import contextlib
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from ..core.keys import SigningKey, derive_client, derive_member
from .home import Home, appear, write_whole
from .secret_file import read_secret

_FILE: Final = re.compile(r"master(?:-([1-9][0-9]{0,5}))?\.key")
_NEXT: Final = "master-next.key"
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Master:
    """One secret, never part of what it prints, and its epoch: how many rotations came before."""

    epoch: int
    secret: bytes = field(repr=False)

    def member(self, log: str) -> SigningKey:
        """Return the member key of a ledger (hex)."""
        return derive_member(self.secret, log)

    def client(self, log: str, counter: int) -> SigningKey:
        """Return the client key of lease number ``counter``."""
        return derive_client(self.secret, log, counter)


class Masters:
    """All masters of one home; whoever changes something holds its lock."""

    def __init__(self, home: Home) -> None:
        """Take the home; nothing is read yet."""
        self._folder = home.folder

    def newest(self) -> Master:
        """Return the master that speaks for this client now; the first one is drawn here, once.

        Raises InputError: the file is readable by others, or damaged.
        """
        epochs = self._epochs()
        if not epochs:
            self._draw(self._path(0))
        return self.of(epochs[-1] if epochs else 0)

    def all(self) -> tuple[Master, ...]:
        """Return every master that is here, the oldest first; raises as ``newest``."""
        self.newest()
        return tuple(self.of(epoch) for epoch in self._epochs())

    def of(self, epoch: int) -> Master:
        """Return one master; raises InputError: it is missing, readable by others, or damaged."""
        return Master(epoch, _read(self._path(epoch)))

    def following(self) -> Master:
        """Return the master that a rotation leads to: drawn once, and found again after a kill."""
        path = self._folder / _NEXT
        if not path.exists():
            self._draw(path)
        return Master(self.newest().epoch + 1, _read(path))

    def advance(self) -> Master:
        """Make the following master the newest one, in one rename; return it."""
        master = self.following()
        appear(self._folder / _NEXT, self._path(master.epoch))
        return master

    def path(self, master: Master) -> Path:
        """Return the file of a master, for its owner to keep a copy of."""
        return self._path(master.epoch)

    def next_counter(self, master: Master) -> int:
        """Return a client-key number of a master that was never used, and note it as used first."""
        path = self._counter(master.epoch)
        count = int(path.read_text("ascii")) if path.exists() else 0
        write_whole(path, b"%d\n" % (count + 1))
        return count

    def use_counters_from(self, master: Master, count: int) -> None:
        """Never give a client-key number below ``count``: a backup knows of no counter."""
        path = self._counter(master.epoch)
        if count > (int(path.read_text("ascii")) if path.exists() else 0):
            write_whole(path, b"%d\n" % count)

    def _epochs(self) -> list[int]:
        """Return the epochs whose masters are here; a backup may hold later ones alone."""
        if not self._folder.is_dir():
            return []
        names = (_FILE.fullmatch(each.name) for each in self._folder.iterdir())
        return sorted(int(name[1] or 0) for name in names if name)

    def _path(self, epoch: int) -> Path:
        return self._folder / (f"master-{epoch}.key" if epoch else "master.key")

    def _counter(self, epoch: int) -> Path:
        return self._folder / (f"counter-{epoch}" if epoch else "counter")

    def _draw(self, path: Path) -> None:
        write_whole(path, secrets.token_bytes(_BYTES).hex().encode() + b"\n")


def _read(path: Path) -> bytes:
    text = read_secret(path, why="whoever reads it can sign as this client", code="master-key")
    with contextlib.suppress(ValueError):
        master = bytes.fromhex(text.decode("ascii", errors="replace").strip())
        if len(master) == _BYTES:
            return master
    raise InputError(
        f"{path} does not hold 64 hex digits",
        why="all keys of this client are derived from it",
        fix="restore the file from your backup, or start with a new --home",
        code="master-key-damaged",
    )
