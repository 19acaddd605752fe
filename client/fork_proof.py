"""The proof that a ledger was forked: two checkpoints by one key that cannot both be true.

    {"keyrings": [documents], "new": note, "old": note, "proof": [hashes], "root": hash, "v": 1}

``root`` and ``proof`` show what the newer checkpoint says of the first leaves: ``proof`` leads
``root``, over as many leaves as the older one has, to the newer root; and ``root`` is not what the
older one signed. Laws: it stands alone; whoever has the log id needs nothing else and nobody's
word; the newer checkpoint is signed by the newest of the keys, so one that was rotated away alone
accuses nobody (T25). It can have signed the older one, which is told (``is_by_former_key``).
Source: security.md 2 (T17), 4.3, 4.7. Not here: who saw the two (ledger_view.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..core import canonical, merkle
from ..core.checkpoint import Checkpoint, open_checkpoint
from ..core.errors import VerificationFailed
from ..core.fields import Fields, bad_field, is_hex
from .trust import trusted_keyrings

_MOST_HASHES = 128
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ForkProof:
    """Signed notes, the root that the newer one implies, the hashes that show it, keyrings."""

    old: bytes
    new: bytes
    root: bytes
    proof: tuple[bytes, ...]
    keyrings: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return the file."""
        return canonical.encode(
            {
                "keyrings": [canonical.decode(ring) for ring in self.keyrings],
                "new": canonical.encode_base64(self.new),
                "old": canonical.encode_base64(self.old),
                "proof": [each.hex() for each in self.proof],
                "root": self.root.hex(),
                "v": 1,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "ForkProof":
        """Return the proof in a file; ``check`` says whether it is one.

        Raises VerificationFailed: it has another form.
        """
        if len(data) > _MOST_BYTES:  # T5: size before parsing
            raise bad_field(f"a fork proof of {len(data)} bytes, allowed are {_MOST_BYTES}")
        names = ("keyrings", "new", "old", "proof", "root", "v")
        fields = Fields(canonical.decode(data), "a fork proof", need=names)
        fields.version()
        hashes = fields.items("proof", most=_MOST_HASHES)
        if not all(is_hex(each) for each in hashes):
            raise bad_field("`proof` of a fork proof holds something else than hashes")
        return cls(
            old=canonical.decode_base64(fields.text("old", most=32 << 10)),
            new=canonical.decode_base64(fields.text("new", most=32 << 10)),
            root=bytes.fromhex(fields.hex("root")),
            proof=tuple(bytes.fromhex(str(each)) for each in hashes),
            keyrings=tuple(
                canonical.encode(each) for each in fields.items("keyrings", least=1, most=64)
            ),
        )

    def check(self, log: str) -> tuple[Checkpoint, Checkpoint]:
        """Return the two checkpoints, if both are signed for ``log`` and exclude one another.

        Raises VerificationFailed: this proves no fork.
        """
        keys = [ring.ledger for ring in trusted_keyrings(log, self.keyrings)]
        old, new = _signed(self.old, keys, log), open_checkpoint(self.new, keys[-1], log)
        merkle.verify_consistency(
            old_size=old.size, old_root=self.root, size=new.size, root=new.root, proof=self.proof
        )
        if self.root == old.root:
            raise VerificationFailed(
                f"checkpoints of {old.size} and {new.size} leaves that agree",
                why="the newer one continues the older one, so this proves no fork",
                fix="do not accuse anybody with this file",
                code="no-fork",
            )
        return old, new

    def is_by_former_key(self, log: str) -> bool:
        """Return whether the older checkpoint is by a key that was rotated away since.

        Then whoever holds that key can have made it. Raises as `check`.
        """
        newest = trusted_keyrings(log, self.keyrings)[-1].ledger
        try:
            open_checkpoint(self.old, newest, log)
        except VerificationFailed:
            return True
        return False


def _signed(note: bytes, keys: Sequence[str], log: str) -> Checkpoint:
    """Return the older checkpoint, signed by any ledger key that the log has had."""
    *others, newest = keys
    for key in others:
        try:
            return open_checkpoint(note, key, log)
        except VerificationFailed:
            continue
    return open_checkpoint(note, newest, log)
