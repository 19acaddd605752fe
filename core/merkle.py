"""The ledger's Merkle tree: hashes, growth by one leaf, and the two kinds of proof.

    leaf = SHA-256(0x00 + body),  node = SHA-256(0x01 + left + right),  empty = SHA-256("")

The shape is RFC 6962's: the left subtree is the largest full one. Law: an inclusion proof ties one
leaf to one root, a consistency proof ties an older root to a newer one, so a ledger can grow and
never change (T17, I7); a verifier takes a proof of exactly the right length and no other.
``Peaks`` holds log2(n) hashes: appending, the root and the proof of the newest leaf cost O(log n).
Proofs for older leaves cost O(n) from leaf hashes and O(log n) from tiles (tiled.py).
Source: RFC 6962 2.1, RFC 9162 2.1.3 and 2.1.4.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .errors import VerificationFailed

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def leaf_hash(body: bytes) -> bytes:
    """Return the hash of one leaf; the 0x00 keeps it from passing for a node."""
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash over two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Peaks:
    """A tree of ``size`` leaves as the roots of its full subtrees, the largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is one hash for each full subtree."""
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise _bad_proof(f"{len(self.hashes)} peaks for a tree of {self.size} leaves")

    def append(self, leaf: bytes) -> "Peaks":
        """Return the tree with one more leaf hash."""
        hashes, grown, size = list(self.hashes), leaf, self.size
        while size & 1:
            grown = node_hash(hashes.pop(), grown)
            size >>= 1
        return Peaks(self.size + 1, (*hashes, grown))

    @property
    def root(self) -> bytes:
        """The root hash; that of no leaves is SHA-256 of nothing."""
        if not self.hashes:
            return EMPTY_ROOT
        *rest, root = self.hashes
        for peak in reversed(rest):
            root = node_hash(peak, root)
        return root

    def proof_of_next(self) -> tuple[bytes, ...]:
        """Return the inclusion proof of the leaf appended next, in the tree of ``size + 1``.

        It is the peaks themselves, the smallest first: that leaf is the rightmost one.
        """
        return self.hashes[::-1]


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    peaks = Peaks()
    for leaf in leaves:
        peaks = peaks.append(leaf)
    return peaks.root


def left(size: int) -> int:
    """Return the leaves of the left subtree: the largest power of two below ``size``, 2 or more."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(leaves: Sequence[bytes], index: int, size: int) -> tuple[bytes, ...]:
    """Return the proof that leaf ``index`` is in the tree of the first ``size`` leaf hashes.

    The leaf's sibling first. Raises VerificationFailed ``bad-proof``: there is no such leaf.
    """
    _check_range(index + 1, size, len(leaves))
    return tuple(root(leaves[start:end]) for start, end in inclusion_path(index, size))


def consistency_proof(leaves: Sequence[bytes], old_size: int, size: int) -> tuple[bytes, ...]:
    """Return the proof that the first ``size`` leaf hashes continue the first ``old_size``.

    Empty for equal sizes. Raises VerificationFailed ``bad-proof``: sizes out of range.
    """
    _check_range(old_size, size, len(leaves))
    return tuple(root(leaves[start:end]) for start, end in consistency_path(old_size, size))


def inclusion_path(index: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges of leaves whose roots prove leaf ``index``, the leaf's sibling first.

    Raises VerificationFailed ``bad-proof``: there is no such leaf.
    """
    _check_range(index + 1, size, size)
    path: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + left(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return tuple(reversed(path))


def consistency_path(old_size: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges of leaves whose roots prove that ``size`` leaves continue ``old_size``.

    Raises VerificationFailed ``bad-proof``: sizes out of range.
    """
    _check_range(old_size, size, size)
    path: list[tuple[int, int]] = []
    start, end, known = 0, size, True
    while end != old_size:
        middle = start + left(end - start)
        if old_size <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start, known = middle, False
    if not known:
        path.append((start, end))
    return tuple(reversed(path))


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that the tree of ``size`` leaves with this root has the leaf hash at ``index``.

    Raises VerificationFailed ``bad-proof``.
    """
    _check_range(index + 1, size, size)
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise _bad_proof("an inclusion proof with a hash to spare")
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    if last or found != root:
        raise _bad_proof("an inclusion proof that leads to another root")


def verify_consistency(
    *, old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of ``size`` leaves continues that of ``old_size`` unchanged.

    Raises VerificationFailed ``bad-proof``.
    """
    if old_size == size:
        if proof or old_root != root:
            raise _bad_proof("two roots of one size")
        return
    _check_range(old_size, size, size)
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise _bad_proof("a consistency proof without a hash")
    place, last = old_size - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old_found = found = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _bad_proof("a consistency proof with a hash to spare")
        if place & 1 or place == last:
            old_found, found = node_hash(sibling, old_found), node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    if last or old_found != old_root or found != root:
        raise _bad_proof("a consistency proof that leads to other roots")


def _check_range(low: int, high: int, most: int) -> None:
    if not 1 <= low <= high <= most:
        raise _bad_proof(f"a proof from {low} to {high} in a tree of {most} leaves")


def _bad_proof(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="a ledger only grows, so every proof leads to the signed root",
        fix="get it again; if it stays, tell others: the ledger was rewritten",
        code="bad-proof",
    )
