"""The rotation: a member's signed word that another key takes the place of its own.

Law: both keys sign it, so nobody gives a place to a key that its holder did not offer, nor takes
one; it names two keys of one ledger, and a key is replaced once, so a captured one repeats nothing
(T3). The ledger knows no member keys and has no leaf of it. Source: security.md 3. Not here: what
moves with it (coordinator/succession.py), where the new key rests (client/masters.py).
"""

from dataclasses import dataclass

from .document import Document
from .fields import Fields, bad_field


@dataclass(frozen=True, slots=True)
class MemberRotation:
    """In the ledger ``log`` the member key ``new`` takes the place of ``old``; all are hex."""

    log: str
    old: str
    new: str

    def body(self) -> dict[str, object]:
        """Return the body that is signed."""
        return {"log": self.log, "new": self.new, "old": self.old, "v": 1}

    @classmethod
    def from_document(cls, signed: Document) -> "MemberRotation":
        """Return the rotation of a document that both its keys signed, and nobody else.

        Raises VerificationFailed: ``bad-field``, ``bad-key`` or ``bad-signature``.
        """
        fields = Fields(signed.body, "a rotation", need=("log", "new", "old", "v"))
        fields.version()
        found = cls(log=fields.hex("log"), old=fields.hex("old"), new=fields.hex("new"))
        both = sorted((found.old, found.new))
        if signed.kind != "rotation" or [each.key for each in signed.sigs] != both:
            raise bad_field("a rotation is signed by the old and the new key, and nobody else")
        signed.verify(both, need=2)
        return found
