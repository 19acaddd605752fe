"""A ledger read by code of its own: the store check's Merkle tree, notes and receipts.

Law (reliability.md 7): nothing here is shared with the product but SHA-256. Tree and proofs are RFC
6962's, straight from their definitions; a receipt is walked down from the root's shape and hashed
up again.
Not here: signatures (the clients checked them when they got their receipts).
"""

import base64
import hashlib
import json
from functools import cache


class PlainLedger:
    """RFC 6962's tree over leaf bodies, straight from its definition."""

    def __init__(self, bodies: list[bytes]) -> None:
        self.bodies = bodies
        self.leaves = [json.loads(body) for body in bodies]

        @cache
        def root(start: int, end: int) -> bytes:
            if end - start == 1:
                return hashlib.sha256(b"\0" + bodies[start]).digest()
            half = _half(end - start)
            pair = root(start, start + half) + root(start + half, end)
            return hashlib.sha256(b"\1" + pair).digest()

        self._root = root

    def root(self, size: int) -> bytes:
        return self._root(0, size) if size else hashlib.sha256(b"").digest()

    def path(self, index: int, size: int) -> list[bytes]:
        """PATH of RFC 6962 2.1.1, the leaf's sibling first."""

        def walk(start: int, end: int) -> list[bytes]:
            if end - start == 1:
                return []
            half = _half(end - start)
            if index < start + half:
                return [*walk(start, start + half), self._root(start + half, end)]
            return [*walk(start + half, end), self._root(start, start + half)]

        return walk(0, size)

    def growth(self, old: int, size: int) -> list[bytes]:
        """PROOF of RFC 6962 2.1.2, from SUBPROOF's definition."""

        def walk(start: int, end: int, *, known: bool) -> list[bytes]:
            if old == end:
                return [] if known else [self._root(start, end)]
            half = _half(end - start)
            if old <= start + half:
                return [*walk(start, start + half, known=known), self._root(start + half, end)]
            return [*walk(start + half, end, known=False), self._root(start, start + half)]

        return walk(0, size, known=True)

    def tiles(self, size: int) -> dict[str, bytes]:
        """Every tile of the first ``size`` leaves by its name, from c2sp.org/tlog-tiles."""
        found: dict[str, bytes] = {}
        for first in range(0, size, 256):
            bodies = self.bodies[first : min(first + 256, size)]
            data = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
            found[_tile_name("entries", first // 256, len(bodies))] = data
        level, span = 0, 1
        while size // span:
            for first in range(0, size // span, 256):
                places = range(first, min(first + 256, size // span))
                data = b"".join(self._root(i * span, (i + 1) * span) for i in places)
                found[_tile_name(str(level), first // 256, len(places))] = data
            level, span = level + 1, span * 256
        return found

    def holds(self, size: int, root: bytes) -> bool:
        return 0 <= size <= len(self.bodies) and self.root(size) == root

    def proves(self, receipt: bytes | None, index: int) -> bool:
        """Return whether a receipt proves that this leaf is in a past state of this very ledger."""
        if receipt is None:
            return False
        head, _, signed = receipt.partition(b"\n\n")
        lines = head.split(b"\n")
        try:
            body = base64.b64decode(lines[1].removeprefix(b"extra "), validate=True)
            proof = [base64.b64decode(line, validate=True) for line in lines[3:]]
            size, root = read_note(signed)
        except (ValueError, IndexError):
            return False
        if lines[2] != b"index %d" % index or not 0 <= index < size or not self.holds(size, root):
            return False
        return body == self.bodies[index] and _leads_to(root, body, index, size, proof)


def _half(size: int) -> int:
    """Return the largest power of two below ``size``."""
    half = 1
    while half * 2 < size:
        half *= 2
    return half


def _tile_name(level: str, index: int, width: int) -> str:
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    path = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"tile/{level}/{path}" + (f".p/{width}" if width < 256 else "")


def read_note(data: bytes) -> tuple[int, bytes]:
    """Return size and root of a checkpoint note; raises ValueError for anything else."""
    lines = data.split(b"\n")
    if len(lines) < 6 or lines[3] or not lines[4].startswith("\u2014 ".encode()) or lines[-1]:
        raise ValueError("a note in another form")
    base64.b64decode(lines[4].rsplit(b" ", 1)[1], validate=True)
    return int(lines[1]), base64.b64decode(lines[2], validate=True)


def _leads_to(root: bytes, body: bytes, index: int, size: int, proof: list[bytes]) -> bool:
    """Walk the path down from the root's shape, then hash it up."""
    sides: list[str] = []
    start, end = 0, size
    while end - start > 1:
        half = _half(end - start)
        left = index < start + half
        sides.append("right" if left else "left")
        start, end = (start, start + half) if left else (start + half, end)
    if len(sides) != len(proof):
        return False
    node = hashlib.sha256(b"\0" + body).digest()
    for side, sibling in zip(reversed(sides), proof, strict=True):
        pair = node + sibling if side == "right" else sibling + node
        node = hashlib.sha256(b"\1" + pair).digest()
    return node == root
