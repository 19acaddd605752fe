r"""The ciphertext of a private contribution: one stream that opens whole, for one lease, or not.

    ofpriv/1\n + prefix (7 bytes) + segments of 65,536 bytes, each ChaCha20-Poly1305 under K
    nonce = prefix + segment number (4 bytes, big-endian) + last flag (0 or 1),   AAD = X
    X = SHA-256("orthofed/v1/private\n" + CJ{client, fed, fence, log, slot, v})

Law: every byte counts. The number keeps segments in their order, the flag notices an end that came
too soon or too late, X ties all of it to one lease, so nothing can be cut, spliced or moved to
another slot (T4); the length is that of the plaintext plus what ``sealed_bytes`` says, so the
layout fixes it (T5). K serves one stream only. Source: security.md 9.4; the shape is that of STREAM
(IACR ePrint 2015/189). Cost: two segments in memory. Not here: who can learn
K (client/wraps.py), the files.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .canonical import encode
from .contribution import ContributionManifest
from .errors import VerificationFailed
from .layout import ContributionLayout

KEY_BYTES: Final = 32
PREFIX_BYTES: Final = 7
SEGMENT_BYTES: Final = 65_536
"""Plaintext of each segment but the last, which may be shorter."""
SEALED_SEGMENT_BYTES: Final = SEGMENT_BYTES + 16
WRAP_BYTES: Final = 80
"""One wrap of K: an X25519 share and 32 bytes under ChaCha20-Poly1305."""
MOST_WRAPS: Final = 64
WRAPS_STEP: Final = 8
"""The wraps of one contribution are padded to a multiple of this many."""
HEAD_BYTES: Final = 16
_DOMAIN: Final = b"orthofed/v1/private\n"
_MAGIC: Final = b"ofpriv/1\n"
_TAG: Final = 16


def sealed_bytes(plain_bytes: int) -> int:
    """Return the length of the ciphertext.

    >>> sealed_bytes(4_000_000) - 4_000_000
    1008
    """
    return HEAD_BYTES + plain_bytes + _TAG * max(1, -(-plain_bytes // SEGMENT_BYTES))


def blob_bytes(layout: ContributionLayout, *, private: bool) -> int:
    """Return the one length that the blob of a lease has, as it travels."""
    return sealed_bytes(layout.size) if private else layout.size


def lease_context(manifest: ContributionManifest) -> bytes:
    """Return X: the lease that a ciphertext belongs to, 32 bytes."""
    body: dict[str, object] = {
        "client": manifest.client,
        "fed": manifest.fed,
        "fence": manifest.fence,
        "log": manifest.log,
        "slot": manifest.slot,
        "v": 1,
    }
    return hashlib.sha256(_DOMAIN + encode(body)).digest()


def wrap_info(context: bytes) -> bytes:
    """Return what HPKE binds a wrap of K to."""
    return _DOMAIN + context


def seal(
    segments: Iterable[bytes], *, key: bytes, prefix: bytes, context: bytes
) -> Iterator[bytes]:
    """Yield the ciphertext of ``segments``: SEGMENT_BYTES each, the last one not longer.

    ``key`` and ``prefix`` are random bytes that serve this one stream.
    """
    if len(prefix) != PREFIX_BYTES:
        raise ValueError("a prefix has 7 bytes")  # our own bug, never input
    cipher = ChaCha20Poly1305(key)
    yield _MAGIC + prefix
    for number, segment, last in _numbered(segments, SEGMENT_BYTES):
        yield cipher.encrypt(_nonce(prefix, number, last=last), segment, context)


def open_sealed(
    head: bytes, segments: Iterable[bytes], *, key: bytes, context: bytes
) -> Iterator[bytes]:
    """Yield the plaintext; ``head`` is the first HEAD_BYTES, ``segments`` SEALED_SEGMENT_BYTES.

    What was yielded is genuine, and whole only when the iterator has ended by itself.
    Raises VerificationFailed ``not-opened``: another key, another lease, or changed bytes.
    """
    if len(head) != HEAD_BYTES or not head.startswith(_MAGIC):
        raise _not_opened("it does not begin as one")
    cipher, prefix = ChaCha20Poly1305(key), head[len(_MAGIC) :]
    for number, segment, last in _numbered(segments, SEALED_SEGMENT_BYTES):
        try:
            yield cipher.decrypt(_nonce(prefix, number, last=last), segment, context)
        except InvalidTag as error:
            raise _not_opened(f"segment {number} is not what was sealed") from error


def check_wraps(wraps: bytes) -> None:
    """Check the one thing about a file of wraps that a stranger can: its length.

    Raises VerificationFailed ``bad-wraps``.
    """
    num, rest = divmod(len(wraps), WRAP_BYTES)
    if rest or num % WRAPS_STEP or not 0 < num <= MOST_WRAPS:
        raise VerificationFailed(
            f"wraps of {len(wraps)} bytes",
            why=f"they are {WRAPS_STEP} to {MOST_WRAPS} entries of {WRAP_BYTES} bytes, a multiple"
            f" of {WRAPS_STEP}",
            fix="seal the contribution again",
            code="bad-wraps",
        )


def _numbered(segments: Iterable[bytes], full: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield (number, segment, is the last), all but the last of ``full`` bytes."""
    waiting = iter(segments)
    segment, number = next(waiting, b""), 0
    for following in waiting:
        if len(segment) != full:
            raise ValueError("only the last segment may be shorter")  # the caller's slicing
        yield number, segment, False
        segment, number = following, number + 1
    yield number, segment, True


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _not_opened(why: str) -> VerificationFailed:
    return VerificationFailed(
        "a private contribution that cannot be opened",
        why=why,
        fix="fetch it again; if it stays, tell the operator",
        code="not-opened",
    )
