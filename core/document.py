"""A signed document: CJ{body, kind, sigs}, and its id.

Law: a signature covers ``orthofed/v1/`` + kind + newline + CJ(body), so no signature of one kind
can stand under another. The id is SHA-256(CJ(body)): a co-signature does not change it. ``sigs`` is
sorted by key, no key twice; *every* signature must verify, only those of allowed keys count.
Source: security.md 4.2. Not here: what a body says (core/keyring.py, contribution.py, release.py).
"""

import hashlib
import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from . import keys
from .canonical import decode, encode
from .errors import VerificationFailed
from .fields import Fields, bad_field

Kind = Literal[
    "request",
    "join",
    "lease",
    "rotation",
    "contribution",
    "withdrawal",
    "keyring",
    "release",
    "head",
    "share",
]
_KINDS: Final = frozenset(cast("tuple[str, ...]", get_args(Kind)))
_MOST_SIGNATURES: Final = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature and the key it claims, both hex."""

    key: str
    sig: str


@dataclass(frozen=True, slots=True)
class Document:
    """A body with its signatures; nothing is known to be true before ``verify``."""

    kind: str
    body: dict[str, object]
    sigs: tuple[Signature, ...]

    @property
    def id(self) -> str:
        """SHA-256 of the canonical body, hex."""
        return hashlib.sha256(encode(self.body)).hexdigest()

    @property
    def value(self) -> dict[str, object]:
        """The document as a value, to be nested in a ledger leaf."""
        sigs = [{"key": each.key, "sig": each.sig} for each in self.sigs]
        return {"body": self.body, "kind": self.kind, "sigs": sigs}

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(self.value)

    def check_only(self, allowed: Collection[str]) -> None:
        """Raise VerificationFailed if a key that is none of ``allowed``, hex, signed it too."""
        if strange := [each.key for each in self.sigs if each.key not in allowed]:
            raise VerificationFailed(
                f"a signature by key {strange[0][:16]}..., which is none of its signers'",
                why="somebody else added it, so the file is not what was published",
                fix="take the file from the coordinator",
                code="strange-signature",
            )

    def verify(self, allowed: Collection[str], need: int = 1) -> None:
        """Check every signature, and that ``need`` of them are by ``allowed`` keys.

        Raises VerificationFailed: ``bad-signature``, or ``too-few-signatures``.
        """
        message = signed_message(self.kind, self.body)
        for each in self.sigs:
            keys.verify(each.key, bytes.fromhex(each.sig), message)
        counted = len({each.key for each in self.sigs} & set(allowed))
        if counted < need or need < 1:
            raise VerificationFailed(
                f"a {self.kind} with {counted} of {need} signatures that count",
                why="the others are by keys that have no say here",
                fix="get it again from its source; if it stays, tell the operator",
                code="too-few-signatures",
            )


def signed_message(kind: str, body: dict[str, object]) -> bytes:
    """Return the bytes that a signature of ``kind`` covers."""
    if kind not in _KINDS:
        raise bad_field("a document of no known kind")
    return b"orthofed/v1/" + kind.encode("ascii") + b"\n" + encode(body)


def sign(kind: str, body: dict[str, object], signers: Iterable[keys.SigningKey]) -> Document:
    """Return the document signed by each of ``signers``."""
    message = signed_message(kind, body)
    made = {key.public_hex: key.sign(message).hex() for key in signers}
    return Document(kind, body, tuple(Signature(key, made[key]) for key in sorted(made)))


def parse(data: bytes, *, kind: str) -> Document:
    """Return the document that ``data`` spells; signatures are not checked yet.

    Raises VerificationFailed: ``not-canonical``, or ``bad-field`` for another kind or shape.
    """
    return from_value(decode(data), kind=kind)


def from_value(value: object, *, kind: str) -> Document:
    """Return the document nested in a ledger leaf; ``parse`` for a decoded value."""
    fields = Fields(value, "a document", need=("body", "kind", "sigs"))
    found = fields.one_of("kind", (kind,))
    body = fields.raw("body")
    if not isinstance(body, dict):
        raise bad_field("`body` of a document is no object")
    sigs = tuple(_signature(each) for each in fields.items("sigs", least=1, most=_MOST_SIGNATURES))
    if any(one.key >= other.key for one, other in itertools.pairwise(sigs)):
        raise bad_field("`sigs` of a document is not sorted by key, each key once")
    return Document(found, cast("dict[str, object]", body), sigs)


def sign_detached(kind: str, body: dict[str, object], key: keys.SigningKey) -> bytes:
    """Return the 64-byte signature alone, for a body that travels by itself."""
    return key.sign(signed_message(kind, body))


def verify_detached(kind: str, body: dict[str, object], *, signature: bytes, key: str) -> None:
    """Check a signature of ``sign_detached``. Raises VerificationFailed as ``keys.verify``."""
    keys.verify(key, signature, signed_message(kind, body))


def _signature(value: object) -> Signature:
    fields = Fields(value, "a signature", need=("key", "sig"))
    return Signature(fields.hex("key"), fields.hex("sig", 128))
