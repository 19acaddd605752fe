"""A ledger read by code of its own: the store check's Merkle tree, notes and receipts.

Law (reliability.md 7): nothing here is shared with the product but SHA-256. The tree is RFC 6962's,
straight from its definition; a receipt is walked down from the root's shape and hashed up again.
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
            half = 1
            while half * 2 < end - start:
                half *= 2
            pair = root(start, start + half) + root(start + half, end)
            return hashlib.sha256(b"\1" + pair).digest()

        self._root = root

    def root(self, size: int) -> bytes:
        return self._root(0, size) if size else hashlib.sha256(b"").digest()

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
        half = 1
        while half * 2 < end - start:
            half *= 2
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
