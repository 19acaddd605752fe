"""Remembers the newest head that this client has seen of each ledger, and refuses to go back.

    home/logs/<log id>.json    {"head": document, "keyrings": number, "note": text, "v": 1}

Laws: what was seen is replaced whole or not at all, and only by a head that passed every check and
is not older; two processes at once leave the newer one. A memory that cannot be read is an error,
never an empty memory, since forgetting is what an attacker would want (T16). It lies in the home,
which needs no membership: consumers have one too. Not here: the checks (ledger_view.py).
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core import canonical, document
from ..core.document import Document
from ..core.errors import InputError, VerificationFailed
from ..core.fields import Fields, is_hex
from ..core.head import LedgerHead
from .home import write_whole


@dataclass(frozen=True, slots=True)
class Seen:
    """A head and its checkpoint as they were signed, and how many keyrings there were."""

    head: Document
    note: bytes
    keyrings: int

    @property
    def told(self) -> LedgerHead:
        """What the head says."""
        return LedgerHead.from_document(self.head)


@dataclass(frozen=True, slots=True)
class SeenHeads:
    """The memory in the folder of one client."""

    folder: Path

    def path(self, log: str) -> Path:
        """Return the file of one ledger. T10: a log id is hex digits."""
        if not is_hex(log):
            raise ValueError("a log id is 64 hex digits")
        return self.folder / "logs" / f"{log}.json"

    def of(self, log: str) -> Seen | None:
        """Return what was seen of a ledger, or None.

        Raises InputError: the file is damaged.
        """
        path = self.path(log)
        try:
            names = ("head", "keyrings", "note", "v")
            fields = Fields(canonical.decode(path.read_bytes()), "a memory", need=names)
            fields.version()
            seen = Seen(
                document.from_value(fields.raw("head"), kind="head"),
                canonical.decode_base64(fields.text("note", most=32 << 10)),
                fields.integer("keyrings", 1),
            )
            LedgerHead.from_document(seen.head)
        except FileNotFoundError:
            return None
        except VerificationFailed as error:
            raise InputError(
                f"{path} cannot be read: {error.what}",
                why="it says what was seen of a ledger, and without it an old one would pass",
                fix=f"move {path} away only if you know why it is damaged, then run this again",
                code="memory-damaged",
            ) from error
        return seen

    def remember(self, log: str, seen: Seen) -> None:
        """Keep ``seen``, unless a newer head was remembered meanwhile."""
        with self._locked():
            before = self.of(log)
            if before is not None and _order(before) > _order(seen):
                return
            record = {
                "head": seen.head.value,
                "keyrings": seen.keyrings,
                "note": canonical.encode_base64(seen.note),
                "v": 1,
            }
            write_whole(self.path(log), canonical.encode(record))

    @contextmanager
    def _locked(self) -> Generator[None]:
        (self.folder / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.folder / "logs" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _order(seen: Seen) -> tuple[int, int, int]:
    return seen.told.size, seen.keyrings, seen.told.t
