r"""The keyring: which keys speak for a federation, and the log id that pins all of it.

    L = SHA-256("orthofed/v1/log\n" + hex(fed) + "\n" + hex(id of keyring 1) + "\n")

Law: whoever knows L knows spec, roots and ledger key, since keyring 1 names them; keyring n + 1
carries ``prev`` = id of n and the signatures of both sets of roots.
Source: security.md 3 and 4.3. Not here: whose signatures a keyring carries (core/document.py
``verify``), the walk along the chain (client/trust.py).
"""

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .canonical import encode
from .errors import VerificationFailed
from .fields import NO_ID, Fields, bad_field, is_hex
from .keys import check_public

_MOST_ROOTS: Final = 5
_MOST_RELEASE_KEYS: Final = 4


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of one federation from ``t`` until ``until`` (Unix seconds).

    ``fresh``: greatest age of a ledger head, in seconds. ``need``: how many roots must sign.
    """

    fed: str
    fresh: int
    ledger: str
    n: int
    need: int
    prev: str
    release: tuple[str, ...]
    root: tuple[str, ...]
    t: int
    until: int

    @property
    def id(self) -> str:
        """The id of the document that carries this keyring."""
        return hashlib.sha256(encode(self.to_body())).hexdigest()

    def check_time(self, now_s: int) -> None:
        """Check that the keyring is still in force.

        Raises VerificationFailed ``keyring-expired``.
        """
        if now_s > self.until:
            over_d = (now_s - self.until) / 86_400
            raise VerificationFailed(
                f"keyring {self.n} ran out {over_d:.0f} days ago",
                why="keys are trusted for a time, so that a stolen one does not serve for ever",
                fix="pull the release again; if it stays, ask the operator for a new keyring",
                code="keyring-expired",
            )

    def to_body(self) -> dict[str, object]:
        """Return the body that is signed."""
        return {
            "fed": self.fed,
            "fresh": self.fresh,
            "ledger": self.ledger,
            "n": self.n,
            "need": self.need,
            "prev": self.prev,
            "release": list(self.release),
            "root": list(self.root),
            "t": self.t,
            "until": self.until,
            "v": 1,
        }

    @classmethod
    def from_body(cls, body: object) -> "Keyring":
        """Return the keyring, each key fit to verify by.

        Raises VerificationFailed: ``bad-field`` or ``bad-key``.
        """
        names = [
            "fed",
            "fresh",
            "ledger",
            "n",
            "need",
            "prev",
            "release",
            "root",
            "t",
            "until",
            "v",
        ]
        fields = Fields(body, "a keyring", need=names)
        fields.version()
        root = _keys(fields, "root", _MOST_ROOTS)
        start_s = fields.integer("t")
        ring = cls(
            fed=fields.hex("fed"),
            fresh=fields.integer("fresh", 1),
            ledger=fields.hex("ledger"),
            n=fields.integer("n", 1),
            need=fields.integer("need", 1, len(root)),
            prev=fields.hex("prev"),
            release=_keys(fields, "release", _MOST_RELEASE_KEYS),
            root=root,
            t=start_s,
            until=fields.integer("until", start_s + 1),
        )
        check_public(ring.ledger)
        if (ring.n == 1) != (ring.prev == NO_ID):
            raise bad_field("`prev` of a keyring is 64 zeros exactly for the first one")
        return ring


def ledger_key_at(rings: Sequence[Keyring], leaves: Sequence[int], size: int) -> str:
    """Return the ledger key that signs the checkpoint of ``size`` leaves.

    ``leaves``: where each keyring lies in the ledger. Law: keyring k signs exactly the sizes with
    leaf(k) < size <= leaf(k + 1), and the first one those before it; no clock is involved.
    """
    return rings[max(0, bisect_left(leaves, size) - 1)].ledger


def log_id(fed: str, keyring_1: str) -> str:
    """Return L, hex, from the ids of the spec and of keyring 1, hex."""
    return hashlib.sha256(f"orthofed/v1/log\n{fed}\n{keyring_1}\n".encode("ascii")).hexdigest()


def _keys(fields: Fields, name: str, most: int) -> tuple[str, ...]:
    found = tuple(
        key
        for key in fields.items(name, least=1, most=most)
        if isinstance(key, str) and is_hex(key)
    )
    if len(found) != len(set(found)) or len(found) != len(fields.items(name, most=most)):
        raise bad_field(f"`{name}` of a keyring is not a list of keys, each once")
    for key in found:
        check_public(key)
    return found
