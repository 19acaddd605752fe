"""The receipt: a leaf, its proof and the signed checkpoint in one file that verifies offline.

    c2sp.org/tlog-proof@v1
    extra <base64 of the leaf's body>
    index <i>
    <base64 of a hash>        one line each, the leaf's sibling first

    <checkpoint>

Law: who has the log id and the ledger's key needs nothing else to know that the coordinator wrote
the leaf down; ``make_receipt`` is the only spelling. At most 48 KiB.
Source: security.md 4.7, c2sp.org/tlog-proof. Not here: what the leaf should say.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from . import merkle
from .checkpoint import Checkpoint, open_checkpoint
from .errors import VerificationFailed
from .leaf import parse_leaf

_RECEIPT_BYTES: Final = 48 << 10
_HEAD: Final = "c2sp.org/tlog-proof@v1"
_MOST_HASHES: Final = 64
_MOST_DIGITS: Final = 16
_FORM = re.compile(
    re.escape(_HEAD) + r"\nextra ([A-Za-z0-9+/=]+)\nindex (0|[1-9][0-9]{0,15})\n"
    r"((?:[A-Za-z0-9+/]{43}=\n)*)\n(.*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The leaf (decoded, and its bytes), its index, and what the checkpoint says of the ledger."""

    leaf: dict[str, object]
    leaf_body: bytes
    index: int
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, data: bytes, *, log: str, ledger_key: str) -> "Receipt":
        """Return the receipt after every check; the same as ``verify_receipt``."""
        body, index, proof, note = _split(data)
        checkpoint = open_checkpoint(note, ledger_key, log)
        merkle.verify_inclusion(
            merkle.leaf_hash(body),
            index=index,
            size=checkpoint.size,
            proof=proof,
            root=checkpoint.root,
        )
        return cls(parse_leaf(body), body, index, checkpoint)


def make_receipt(
    leaf_body: bytes, index: int, proof: Sequence[bytes], checkpoint_note: bytes
) -> bytes:
    """Return the receipt's bytes. ``proof``: the leaf's sibling first."""
    lines = [_HEAD, f"extra {_base64(leaf_body)}", f"index {index}", *map(_base64, proof), "", ""]
    return "\n".join(lines).encode("ascii") + checkpoint_note


def verify_receipt(data: bytes, *, log: str, ledger_key: str) -> Receipt:
    """Return the receipt, if ``ledger_key`` signed a checkpoint of ``log`` that holds its leaf.

    Raises VerificationFailed: ``bad-receipt``, ``bad-checkpoint``, ``bad-signature``,
    ``bad-proof``, or that the leaf is of no known form.
    """
    return Receipt.parse(data, log=log, ledger_key=ledger_key)


def checkpoint_size(data: bytes) -> int:
    """Return how many leaves a receipt's checkpoint speaks of; nothing is known to be true yet.

    Raises VerificationFailed ``bad-receipt``.
    """
    lines = _split(data)[3].split(b"\n", 2)
    if len(lines) < 2 or not lines[1].isdigit() or len(lines[1]) > _MOST_DIGITS:  # noqa: PLR2004  # its second line
        raise _bad("a receipt whose checkpoint has no size")
    return int(lines[1])


def _split(data: bytes) -> tuple[bytes, int, tuple[bytes, ...], bytes]:
    """Return leaf body, index, proof and note of bytes in the one spelling."""
    if len(data) > _RECEIPT_BYTES:  # T5: size before parsing
        raise _bad(f"a receipt of {len(data)} bytes, allowed are {_RECEIPT_BYTES}")
    try:
        found = _FORM.fullmatch(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _bad("a receipt that is no text") from error
    if found is None:
        raise _bad("a receipt in another form")
    body, index = _decode(found[1]), int(found[2])
    proof = tuple(_decode(line) for line in found[3].split())
    note = found[4].encode("utf-8")
    if len(proof) > _MOST_HASHES or make_receipt(body, index, proof, note) != data:
        raise _bad("a receipt in another spelling")
    return body, index, proof, note


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _bad("a receipt with damaged base64") from error


def _bad(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="a receipt is a leaf, its proof and a checkpoint, in one spelling",
        fix="get it again from the coordinator, or from its backup",
        code="bad-receipt",
    )
