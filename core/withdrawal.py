"""The withdrawal: a contributor's signed word that its contribution is to leave.

Law: the client key that signed the contribution signs this too, and it names one leaf of one
ledger, so it serves for nothing else and nobody else. It becomes a ledger leaf of its own.
Source: security.md 4.5. Not here: whether that leaf is this client's (coordinator/removal.py).
"""

from dataclasses import dataclass

from .document import Document
from .fields import Fields, bad_field


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Takes contribution ``leaf`` of ``log`` out; keys and ids are hex, ``t`` is Unix seconds."""

    client: str
    fed: str
    leaf: int
    log: str
    t: int

    def body(self) -> dict[str, object]:
        """Return the body that is signed."""
        return {
            "client": self.client,
            "fed": self.fed,
            "leaf": self.leaf,
            "log": self.log,
            "t": self.t,
            "v": 1,
        }

    @classmethod
    def from_document(cls, signed: Document) -> "Withdrawal":
        """Return the withdrawal of a document that its own client key signed, and nobody else.

        Raises VerificationFailed: ``bad-field``, ``bad-key`` or ``bad-signature``.
        """
        names = ("client", "fed", "leaf", "log", "t", "v")
        fields = Fields(signed.body, "a withdrawal", need=names)
        fields.version()
        found = cls(
            client=fields.hex("client"),
            fed=fields.hex("fed"),
            leaf=fields.integer("leaf"),
            log=fields.hex("log"),
            t=fields.integer("t"),
        )
        if signed.kind != "withdrawal" or [each.key for each in signed.sigs] != [found.client]:
            raise bad_field("a withdrawal is signed by its client key alone")
        signed.verify((found.client,))
        return found
