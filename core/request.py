"""The signed header of a request: who asks for what, of which ledger, when.

Law: a signature covers method, body hash, audience, time and nonce, so a captured call repeats
nothing else (T2, T3). Checks run cheapest first and each refusal has its own code: ``bad-header``,
``wrong-audience``, ``wrong-method``, ``bad-time``, ``wrong-body``, ``bad-signature``.
Source: security.md 4.4. Cost: one verification, only after all else fits. Not here: whether the key
is known, the nonce is new and the role is right (coordinator/auth.py); a nonce is stored only after
``check_request`` has passed.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from .canonical import decode, encode
from .document import sign_detached, verify_detached
from .errors import Refused, VerificationFailed
from .fields import Fields
from .keys import SigningKey

_HEADER_BYTES: Final = 1 << 10
_SKEW_S: Final = 60
_NONCE_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """The header's fields: hex but for ``method`` (a gRPC path) and ``t`` (Unix seconds)."""

    aud: str
    body: str
    key: str
    method: str
    nonce: str
    t: int

    def to_body(self) -> dict[str, object]:
        """Return the body that is signed."""
        return {
            "aud": self.aud,
            "body": self.body,
            "key": self.key,
            "method": self.method,
            "nonce": self.nonce,
            "t": self.t,
            "v": 1,
        }

    @classmethod
    def from_body(cls, body: object) -> "RequestHeader":
        """Return the header. Raises VerificationFailed ``bad-field``."""
        names = ("aud", "body", "key", "method", "nonce", "t", "v")
        fields = Fields(body, "a request header", need=names)
        fields.version()
        return cls(
            aud=fields.hex("aud"),
            body=fields.hex("body"),
            key=fields.hex("key"),
            method=fields.text("method", most=128),
            nonce=fields.hex("nonce", _NONCE_DIGITS),
            t=fields.integer("t"),
        )


def sign_request(
    key: SigningKey, *, log: str, method: str, body: bytes, nonce: bytes, now_s: int
) -> tuple[bytes, bytes]:
    """Return the header's bytes and the 64-byte signature, for the two metadata entries.

    ``nonce``: 16 random bytes, fresh for each try.
    """
    header = RequestHeader(
        aud=log,
        body=hashlib.sha256(body).hexdigest(),
        key=key.public_hex,
        method=method,
        nonce=nonce.hex(),
        t=now_s,
    ).to_body()
    return encode(header), sign_detached("request", header, key)


def parse_request(header: bytes) -> RequestHeader:
    """Return what a header claims; nothing of it is known to be true.

    Raises Refused ``bad-header``.
    """
    if len(header) > _HEADER_BYTES:  # T5: size before parsing
        raise _refused(
            f"a header of {len(header)} bytes, allowed are {_HEADER_BYTES}", "bad-header"
        )
    try:
        return RequestHeader.from_body(decode(header))
    except VerificationFailed as error:
        raise _refused(f"a header that cannot be read: {error.what}", "bad-header") from error


def check_request(
    claim: RequestHeader, signature: bytes, *, log: str, method: str, body: bytes, now_s: int
) -> None:
    """Check that ``claim``, of ``parse_request``, was signed by its key for this very call.

    Raises Refused with the code of the first check that failed.
    """
    if claim.aud != log:
        raise _refused("a request for another ledger", "wrong-audience")
    if claim.method != method:
        raise _refused("a request for another method", "wrong-method")
    if abs(now_s - claim.t) > _SKEW_S:
        raise Refused(
            f"a request signed {now_s - claim.t} s ago, allowed are {_SKEW_S} either way",
            why="an old request may be a captured one",
            fix="set the clock of this machine",
            code="bad-time",
        )
    if claim.body != hashlib.sha256(body).hexdigest():
        raise _refused("a request whose message was changed", "wrong-body")
    try:
        verify_detached("request", claim.to_body(), signature=signature, key=claim.key)
    except VerificationFailed as error:
        raise _refused("a request that its key did not sign", "bad-signature") from error


def _refused(what: str, code: str) -> Refused:
    return Refused(
        what,
        why="a signature covers ledger, method, message, time and nonce of one call",
        fix="send the call again from an orthofed of the same version",
        code=code,
    )
