"""Wraps the key of a private contribution for the consumers who may open it, and unwraps it.

One file of 80-byte entries, each HPKE (RFC 9180, base mode: X25519-HKDF-SHA256, HKDF-SHA256,
ChaCha20-Poly1305) of K under one recipient's key, bound to the lease. Laws: an entry does not say
whose it is; order and number tell nothing, since the file is shuffled and padded to a multiple of
eight. The padding is wraps for keys that were thrown away: plain random bytes would not do, because
half of them have a first bit that no share of X25519 has, and who counts those counts the others.
Source: security.md 9.4. Cost: 64 tries take 10 ms.
"""

import secrets
from collections.abc import Collection
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ..core.errors import InputError, VerificationFailed
from ..core.recipient import Recipient
from ..core.sealed import KEY_BYTES, MOST_WRAPS, WRAP_BYTES, WRAPS_STEP, check_wraps, wrap_info

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def wrap(key: bytes, recipients: Collection[Recipient], *, context: bytes) -> bytes:
    """Return the file of wraps of ``key``, which every one of ``recipients`` can open.

    Raises InputError: nobody is named, or more than 64.
    """
    check_recipients(recipients)
    info = wrap_info(context)
    entries = [_SUITE.encrypt(key, recipient.key, info=info) for recipient in set(recipients)]
    while len(entries) % WRAPS_STEP:
        nobody = X25519PrivateKey.generate().public_key()
        entries.append(_SUITE.encrypt(secrets.token_bytes(KEY_BYTES), nobody, info=info))
    secrets.SystemRandom().shuffle(entries)
    return b"".join(entries)


def unwrap(wraps: bytes, private: X25519PrivateKey, *, context: bytes) -> bytes:
    """Return K, if one of the entries is for this key.

    Raises VerificationFailed ``not-for-you``: none is. ``bad-wraps``: it is no file of wraps.
    """
    check_wraps(wraps)
    info = wrap_info(context)
    for start in range(0, len(wraps), WRAP_BYTES):
        try:
            key = _SUITE.decrypt(wraps[start : start + WRAP_BYTES], private, info=info)
        except (InvalidTag, ValueError):  # another one's, or a share of small order
            continue
        if len(key) == KEY_BYTES:
            return key
    raise VerificationFailed(
        f"none of {len(wraps) // WRAP_BYTES} wraps opens with this key",
        why="its owner did not name you when this contribution was sealed, or the wraps are of"
        " another lease",
        fix="give the owner your `orthofed recipient show` line, for contributions to come",
        code="not-for-you",
    )


def check_recipients(recipients: Collection[Recipient]) -> None:
    """Pass if a contribution can be sealed for these.

    Raises InputError ``bad-recipients``.
    """
    if not 1 <= len(set(recipients)) <= MOST_WRAPS:
        raise InputError(
            f"{len(set(recipients))} recipients, allowed are 1 to {MOST_WRAPS}",
            why="a contribution carries one wrap for each, in a file of bounded size",
            fix=f"name at most {MOST_WRAPS}; a group can share one key",
            code="bad-recipients",
        )
