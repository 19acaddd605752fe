"""HPKE (RFC 9180) base mode from its text: X25519-HKDF-SHA256, HKDF-SHA256, ChaCha20-Poly1305.

A second implementation, for the known answers: the library's own draws its share at random and
takes no AAD, which the answers of the RFC have, so it can be compared with them only through this.
"""

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_KEM = b"KEM\x00\x20"
_HPKE = b"HPKE\x00\x20\x00\x01\x00\x03"


@dataclass(frozen=True)
class Setup:
    """What both sides derive (section 5.1)."""

    share: bytes
    shared_secret: bytes
    key: bytes
    nonce: bytes

    def seal(self, plain: bytes, aad: bytes) -> bytes:
        """Return share and ciphertext of the first message."""
        return self.share + ChaCha20Poly1305(self.key).encrypt(self.nonce, plain, aad)


def setup(recipient: X25519PublicKey, *, info: bytes, ephemeral: X25519PrivateKey) -> Setup:
    """Set the sender up with a given ephemeral key."""
    share = ephemeral.public_key().public_bytes_raw()
    secret = _extract(_KEM, b"", b"eae_prk", ephemeral.exchange(recipient))
    shared = _expand(_KEM, secret, b"shared_secret", share + recipient.public_bytes_raw(), 32)
    context = b"\0" + _extract(_HPKE, b"", b"psk_id_hash", b"")
    context += _extract(_HPKE, b"", b"info_hash", info)
    schedule = _extract(_HPKE, shared, b"secret", b"")
    return Setup(
        share,
        shared,
        _expand(_HPKE, schedule, b"key", context, 32),
        _expand(_HPKE, schedule, b"base_nonce", context, 12),
    )


def _extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, hashlib.sha256)


def _expand(suite: bytes, secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    asked = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(secret, asked + b"\1", hashlib.sha256)[:length]  # at most one block here
