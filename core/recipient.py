r"""The public key of a named consumer, who can open private contributions: one word to paste.

    ofr1: + base64url(X25519 key (32 bytes) + SHA-256("orthofed/v1/recipient\n" + key)[:4])

Law: the text has one spelling, and a slip of the finger is noticed by its last four bytes: to seal
for a key that nobody has would lose the contribution in silence. Keys that would share a known
secret (small order) are refused. Source: security.md 3 and 9.4; the check is ours.
Not here: the private half (client/recipient_key.py).
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from .canonical import decode_base64, encode_base64
from .errors import InputError, VerificationFailed

_PREFIX: Final = "ofr1:"
_DOMAIN: Final = b"orthofed/v1/recipient\n"
_KEY: Final = 32
_P: Final = (1 << 255) - 19


@dataclass(frozen=True, slots=True, order=True)
class Recipient:
    """The 32 bytes of an X25519 public key."""

    public: bytes

    @property
    def key(self) -> X25519PublicKey:
        """The key as the library takes it."""
        return X25519PublicKey.from_public_bytes(self.public)

    def to_text(self) -> str:
        """Return the key as one word."""
        return _PREFIX + encode_base64(self.public + _check(self.public))

    @classmethod
    def from_text(cls, text: str) -> "Recipient":
        """Return the key that a person pasted.

        Raises InputError ``bad-recipient``.
        """
        word = text.strip()
        try:
            data = decode_base64(word.removeprefix(_PREFIX))
        except VerificationFailed as error:
            raise _bad(word) from error
        public, check = data[:_KEY], data[_KEY:]
        if not word.startswith(_PREFIX) or len(public) != _KEY or check != _check(public):
            raise _bad(word)
        if not _is_sound(public):
            raise _bad(word)
        return cls(public)


def _check(public: bytes) -> bytes:
    return hashlib.sha256(_DOMAIN + public).digest()[:4]


def _is_sound(public: bytes) -> bool:
    """Return whether the key is canonical and of no small order."""
    if int.from_bytes(public, "little") >= _P:
        return False
    try:
        X25519PrivateKey.from_private_bytes(bytes(_KEY)).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:  # every exchange with such a key gives zeros
        return False
    return True


def _bad(word: str) -> InputError:
    return InputError(
        f"{word[:12]!r}... of {len(word)} characters is no recipient",
        why=f"a recipient is one word that starts with {_PREFIX} and ends with its own check",
        fix="copy the whole line that `orthofed recipient new` printed",
        code="bad-recipient",
    )
