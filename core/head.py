"""The head: the ledger key's word, with a time, for the newest size, root and release.

Law: a checkpoint says what the ledger is and carries no time; the head is signed again every hour,
so that a reader who is fed old files notices (T16). One that is older than the keyring's ``fresh``,
or of a time to come, is refused.
Source: security.md 4.7. Not here: who may sign it, what a reader has seen before.
"""

from dataclasses import dataclass

from .document import Document
from .errors import VerificationFailed
from .fields import NO_ID, Fields, bad_field

_AHEAD_S = 3_600
"""How far a reader's clock may be behind; a head from further ahead would never grow old."""


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """Log id and root (hex), size; number and manifest id of the newest release, or 0 and zeros.

    Units: ``t`` Unix seconds.
    """

    log: str
    manifest: str
    release: int
    root: str
    size: int
    t: int

    def body(self) -> dict[str, object]:
        """Return the body that is signed."""
        return {
            "log": self.log,
            "manifest": self.manifest,
            "release": self.release,
            "root": self.root,
            "size": self.size,
            "t": self.t,
            "v": 1,
        }

    @classmethod
    def from_document(cls, signed: Document) -> "LedgerHead":
        """Return the head of a document whose signature was checked.

        Raises VerificationFailed ``bad-field``.
        """
        names = ("log", "manifest", "release", "root", "size", "t", "v")
        fields = Fields(signed.body, "a head", need=names)
        fields.version()
        head = cls(
            log=fields.hex("log"),
            manifest=fields.hex("manifest"),
            release=fields.integer("release"),
            root=fields.hex("root"),
            size=fields.integer("size", 1),
            t=fields.integer("t"),
        )
        if (head.release == 0) != (head.manifest == NO_ID):
            raise bad_field("`manifest` of a head is 64 zeros exactly before the first release")
        return head

    def check_age(self, *, now_s: int, most_s: int | None) -> None:
        """Check that the head is no older than ``most_s`` seconds, and not of a time to come.

        None: of any age.

        Raises VerificationFailed: ``stale-head`` or ``head-ahead``.
        """
        age_s = now_s - self.t
        if most_s is not None and age_s > most_s:
            raise VerificationFailed(
                f"the ledger's head is {age_s} s old, allowed are {most_s}",
                why="who serves it may be holding back what came since",
                fix="try again later or elsewhere; if it stays, ask the operator",
                code="stale-head",
            )
        if -age_s > _AHEAD_S:
            raise VerificationFailed(
                f"the ledger's head is dated {-age_s} s ahead, allowed are {_AHEAD_S}",
                why="this machine's clock or the coordinator's is wrong",
                fix="set this machine's clock; if it is right, tell the operator",
                code="head-ahead",
            )
