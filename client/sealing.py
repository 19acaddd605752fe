"""Seals a packed contribution for named consumers, and opens one that was sealed for us.

    K, prefix random -> ciphertext (core/sealed.py) + wraps of K (wraps.py)

Law: the manifest signs the hashes of the ciphertext, the wraps and the plaintext, so all who can
open it provably get the same bytes; what was opened is compared with ``plain`` before anybody looks
at it. K is drawn here, used once and written nowhere. Source: security.md 9.4.
Cost: 4 MB in a few hundredths of a second; one contribution in memory.
"""

import hashlib
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ..core.contribution import ContributionManifest
from ..core.errors import VerificationFailed
from ..core.recipient import Recipient
from ..core.sealed import (
    HEAD_BYTES,
    KEY_BYTES,
    PREFIX_BYTES,
    SEALED_SEGMENT_BYTES,
    SEGMENT_BYTES,
    lease_context,
    open_sealed,
    seal,
)
from .wraps import unwrap, wrap


@dataclass(frozen=True, slots=True)
class Sealed:
    """What leaves in the place of a plaintext."""

    blob: bytes
    wraps: bytes


def seal_for(recipients: Collection[Recipient], plain: bytes, *, context: bytes) -> Sealed:
    """Return ``plain`` for ``recipients``, bound to the lease of ``context``.

    Raises InputError: nobody is named, or more than 64.
    """
    key = secrets.token_bytes(KEY_BYTES)
    wraps = wrap(key, recipients, context=context)
    segments = _pieces(plain, SEGMENT_BYTES)
    prefix = secrets.token_bytes(PREFIX_BYTES)
    return Sealed(b"".join(seal(segments, key=key, prefix=prefix, context=context)), wraps)


def open_private(
    manifest: ContributionManifest, blob: bytes, wraps: bytes, private: X25519PrivateKey
) -> bytes:
    """Return the plaintext of a private contribution whose ``manifest`` was verified.

    Raises VerificationFailed: the files are not those that were signed, they were not sealed for
    this key, or what is inside is not what the manifest says.
    """
    check_wraps_of(manifest, wraps)
    if hashlib.sha256(blob).hexdigest() != manifest.blob:
        raise _differs("blob")
    context = lease_context(manifest)
    key = unwrap(wraps, private, context=context)
    segments = _pieces(blob[HEAD_BYTES:], SEALED_SEGMENT_BYTES)
    plain = b"".join(open_sealed(blob[:HEAD_BYTES], segments, key=key, context=context))
    if hashlib.sha256(plain).hexdigest() != manifest.plain:
        raise _differs("plaintext")
    return plain


def check_wraps_of(manifest: ContributionManifest, wraps: bytes) -> None:
    """Pass if ``wraps`` are those that a private manifest signs.

    Raises VerificationFailed ``private-differs``.
    """
    if manifest.form != "private" or hashlib.sha256(wraps).hexdigest() != manifest.wraps:
        raise _differs("wraps")


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    view = memoryview(data)
    return (bytes(view[start : start + size]) for start in range(0, len(data), size))


def _differs(what: str) -> VerificationFailed:
    return VerificationFailed(
        f"the {what} of a private contribution is not what its owner signed",
        why="its SHA-256 differs from the manifest's",
        fix="fetch it again; if it stays, tell the operator",
        code="private-differs",
    )
