"""The share: a concept's owner lets others teach the same concept beside it.

    lease request     signed by the new owner's client key and by the share's key
    contribution      the same, with the share inside: whoever reads the ledger checks it

Law: the client key that signed the contribution at ``leaf`` signs the share, and whoever comes in
signs with ``key``, whose secret the owner gave it and nobody else has; so the coordinator alone can
let nobody in (T29). ``uses`` bounds how many, ``most`` what the number of one of them counts at
most, so that a lie about it has a bound that the owner chose. It names the block, so nobody trains
against another one. Source: docs/adr/0032. Not here: whether the leaf stands (core/standing.py).
"""

from dataclasses import dataclass, replace
from typing import Final

from .document import sign_detached, verify_detached
from .fields import Fields
from .keys import SigningKey

MOST_IMAGES: Final = 10_000
"""The largest number of images that a contribution may sign."""
MOST_OWNERS: Final = 16
"""How many owners a concept has at most, its first one among them."""
_NEED: Final = ("client", "key", "leaf", "log", "most", "sig", "slot", "t", "uses", "v")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The word of the owner of contribution ``leaf``; keys, ids and ``sig`` are hex.

    ``key``: the public key of the secret that came with it. ``slot``: whose block is trained
    against. ``t``: Unix seconds.
    """

    client: str
    key: str
    leaf: int
    log: str
    most: int
    slot: int
    t: int
    uses: int
    sig: str = ""

    def body(self) -> dict[str, object]:
        """Return the body that is signed."""
        return {
            "client": self.client,
            "most": self.most,
            "key": self.key,
            "leaf": self.leaf,
            "log": self.log,
            "slot": self.slot,
            "t": self.t,
            "uses": self.uses,
            "v": 1,
        }

    @property
    def value(self) -> dict[str, object]:
        """The share with its signature, to be nested in a document."""
        return {**self.body(), "sig": self.sig}

    @classmethod
    def signed(  # what it says
        cls, owner: SigningKey, *, most: int, key: str, leaf: int, log: str, slot: int, t: int,
        uses: int,
    ) -> "Share":  # fmt: skip
        """Return the share that ``owner``, the client key of ``leaf``, signs."""
        made = cls(
            client=owner.public_hex,
            most=most,
            key=key,
            leaf=leaf,
            log=log,
            slot=slot,
            t=t,
            uses=uses,
        )
        return replace(made, sig=sign_detached("share", made.body(), owner).hex())

    @classmethod
    def from_value(cls, value: object) -> "Share":
        """Return the share that ``client`` signed.

        Raises VerificationFailed: ``bad-field``, ``bad-key`` or ``bad-signature``.
        """
        fields = Fields(value, "a share", need=_NEED)
        fields.version()
        found = cls(
            client=fields.hex("client"),
            most=fields.integer("most", 1, MOST_IMAGES),
            key=fields.hex("key"),
            leaf=fields.integer("leaf", 2),
            log=fields.hex("log"),
            slot=fields.integer("slot"),
            t=fields.integer("t"),
            uses=fields.integer("uses", 1, MOST_OWNERS - 1),
            sig=fields.hex("sig", 128),
        )
        signature = bytes.fromhex(found.sig)
        verify_detached("share", found.body(), signature=signature, key=found.client)
        return found
