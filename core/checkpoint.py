"""The checkpoint: the ledger key's word for size and root of the ledger, as a C2SP signed note.

    orthofed.ledger/<L>
    <size>
    <base64 of root>

    — orthofed.ledger/<L> <base64 of id4 + signature>

id4 = SHA-256(name + newline + 0x01 + public key)[:4]; the signature covers the text with its final
newline. Law: the first signature line is the ledger's and the note has one spelling up to there;
cosignatures of witnesses may follow and are not looked at here. At most 16 KiB.
Source: security.md 4.7, c2sp.org/signed-note and c2sp.org/tlog-checkpoint.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from . import keys
from .errors import VerificationFailed

_NOTE_BYTES: Final = 16 << 10
_ED25519: Final = b"\x01"
_ID_BYTES: Final = 4
_DIGITS: Final = 16
_COSIGNATURE = re.compile("\u2014 [!-*,-~]+ [A-Za-z0-9+/]+={0,2}")  # printable ASCII, no plus


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Log id (hex), number of leaves, root hash (32 bytes)."""

    log: str
    size: int
    root: bytes

    @property
    def name(self) -> str:
        """The note's first line, which is also the signer's name."""
        return f"orthofed.ledger/{self.log}"

    @property
    def text(self) -> str:
        """The signed text, with its final newline."""
        return f"{self.name}\n{self.size}\n{_base64(self.root)}\n"


def sign_checkpoint(key: keys.SigningKey, checkpoint: Checkpoint) -> bytes:
    """Return the note that the ledger key signs; the same checkpoint gives the same bytes."""
    signature = key.sign(checkpoint.text.encode("ascii"))
    line = _signature_line(checkpoint.name, key.public_hex, signature)
    return f"{checkpoint.text}\n{line}\n".encode()


def open_checkpoint(note: bytes, ledger_key: str, log: str) -> Checkpoint:
    """Return what ``ledger_key`` (hex) says about the ledger ``log`` (hex).

    Raises VerificationFailed: ``bad-checkpoint``, ``bad-key`` or ``bad-signature``.
    """
    if len(note) > _NOTE_BYTES:  # T5: size before parsing
        raise _bad(f"a checkpoint of {len(note)} bytes, allowed are {_NOTE_BYTES}")
    try:
        text, blank, lines = note.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError as error:
        raise _bad("a checkpoint that is no text") from error
    first, *others = lines.split("\n")[:-1] or [""]
    if not blank or not lines.endswith("\n") or not all(map(_COSIGNATURE.fullmatch, others)):
        raise _bad("a checkpoint without a signature line")
    checkpoint = _parse_text(f"{text}\n", log)
    signature = _decode(first.rpartition(" ")[2])[_ID_BYTES:]
    if _signature_line(checkpoint.name, ledger_key, signature) != first:
        raise _bad("a checkpoint that is not signed by this ledger")
    keys.verify(ledger_key, signature, checkpoint.text.encode("ascii"))
    return checkpoint


def _parse_text(text: str, log: str) -> Checkpoint:
    """Read size and root; the text must then be the one we would write for ``log``."""
    lines = text.split("\n")
    size = lines[1] if len(lines) > 2 else ""  # noqa: PLR2004  # name, size, root
    if not re.fullmatch(r"[0-9]+", size) or len(size) > _DIGITS:
        raise _bad("a checkpoint without a size")
    checkpoint = Checkpoint(log, int(size), _decode(lines[2]))
    if checkpoint.text != text or len(checkpoint.root) != hashlib.sha256().digest_size:
        raise _bad("a checkpoint of another ledger or in another spelling")
    return checkpoint


def _signature_line(name: str, public_hex: str, signature: bytes) -> str:
    told = name.encode("ascii") + b"\n" + _ED25519 + bytes.fromhex(public_hex)
    key_id = hashlib.sha256(told).digest()[:_ID_BYTES]
    return f"\u2014 {name} {_base64(key_id + signature)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _bad("a checkpoint with damaged base64") from error


def _bad(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="a checkpoint is the signed size and root of one ledger",
        fix="get it again; if it stays, tell the operator",
        code="bad-checkpoint",
    )
