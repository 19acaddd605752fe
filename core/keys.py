"""Ed25519 keys: signing, strict verification, and derivation from one master secret.

Law: RFC 8032, no prehash, no context; S below the group order, the cofactorless equation (OpenSSL
does both). A public key that is small-order, not canonical (y >= p) or not on the curve is refused,
since such a key signs more than one message at once.
A client keeps one 32-byte master: seed = HKDF-SHA256(master, salt = L, info), so a backup of the
master finds every key again. Source: security.md 3 and 4.2. Cost: about 0.1 ms to sign, 0.5 ms to
verify. Not here: where a seed comes from or rests.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .errors import VerificationFailed
from .fields import is_hex

_P: Final = (1 << 255) - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ORDER_8_Y: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
"""One y of a point of order 8, a root of d y^4 + 2 y^2 = 1; the other is its negative."""
_SMALL_ORDER_Y: Final = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})
"""The y of all eight points whose order divides 8."""
_SEED: Final = 32
_MEMBER_INFO: Final = b"orthofed/v1/member-key\n"
_CLIENT_INFO: Final = b"orthofed/v1/client-key\n"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; its seed is never part of what it prints."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Check the length of the seed."""
        if len(self.seed) != _SEED:
            raise ValueError("an Ed25519 seed has 32 bytes")  # our own bug, never input

    @classmethod
    def from_seed(cls, seed: bytes) -> "SigningKey":
        """Return the key of 32 secret bytes."""
        return cls(seed)

    @property
    def public_hex(self) -> str:
        """The public key, 64 hex digits."""
        public = self._private().public_key()
        return public.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; the same message always gives the same bytes."""
        return self._private().sign(message)

    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


def check_public(public_hex: str) -> None:
    """Check that a public key may be registered.

    Raises VerificationFailed ``bad-key``: not 64 lower-case hex digits, y >= p, one of the eight
    small-order points, or no point of the curve.
    """
    if not is_hex(public_hex):
        raise _bad_key("a key that is not 64 lower-case hex digits")
    number = int.from_bytes(bytes.fromhex(public_hex), "little")
    y = number & ((1 << 255) - 1)
    if y >= _P:
        raise _bad_key("a public key that is not canonical")
    if y in _SMALL_ORDER_Y:
        raise _bad_key("a public key of small order")
    # x^2 = (y^2 - 1) / (d y^2 + 1) has a root, or there is no such point.
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise _bad_key("a public key that is no point of the curve")


def verify(public_hex: str, signature: bytes, message: bytes) -> None:
    """Check one signature.

    Raises VerificationFailed: ``bad-key`` as in ``check_public``, or ``bad-signature``.
    """
    key = _checked(public_hex)
    try:
        key.verify(signature, message)
    except InvalidSignature as error:
        raise VerificationFailed(
            f"a signature of {len(signature)} bytes that is not by key {public_hex[:16]}",
            why="the message, the signature or the key was changed on the way",
            fix="get the data again; if it stays, tell the operator",
            code="bad-signature",
        ) from error


@lru_cache(maxsize=4_096)
def _checked(public_hex: str) -> Ed25519PublicKey:
    """Return the key of a good public key; the last few thousand are not checked again."""
    check_public(public_hex)
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex))


def derive_member(master: bytes, log: str) -> SigningKey:
    """Return this client's member key of the ledger ``log`` (hex)."""
    return _derive(master, log, _MEMBER_INFO)


def derive_client(master: bytes, log: str, counter: int) -> SigningKey:
    """Return the client key of lease number ``counter``, 0 and up, of the ledger ``log``."""
    return _derive(master, log, _CLIENT_INFO + counter.to_bytes(8, "big"))


def _derive(master: bytes, log: str, info: bytes) -> SigningKey:
    if len(master) != _SEED:
        raise ValueError("a master has 32 bytes")  # our own bug, never input
    kdf = HKDF(algorithm=SHA256(), length=_SEED, salt=bytes.fromhex(log), info=info)
    return SigningKey(kdf.derive(master))


def _bad_key(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="signatures by it prove nothing",
        fix="make a new key",
        code="bad-key",
    )
