"""What the public page knows at one moment, as frozen values.

Law: nothing here is more than anyone gets by unsigned calls of the wire contract; the reader
(public_reader.py) has no other source. Times are Unix seconds, keys, ids and hashes hex.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Federation:
    """The spec in the words of a page, and what GetSpec says beside it.

    ``link`` is the federation's address, as ``orthofed pull`` takes it; ``free_slots`` are those
    that a new member can lease; ``kept_slots`` are for the operator's own members.
    """

    name: str
    fed: str
    log: str
    link: str
    base_name: str
    base_revision: str
    base_licence: str
    base_hint: str
    basis: str
    ranks: tuple[tuple[int, int], ...]
    num_layers: int
    capacity: int
    disjoint_slots: int
    free_slots: int
    kept_slots: int
    upload_bytes: int


@dataclass(frozen=True, slots=True)
class Concept:
    """One concept of a release, by its owner's signed word; ``claim`` is that of privacy, or empty.

    ``picture``: the name of its sample in the release, empty for none.
    """

    name: str
    triggers: tuple[str, ...]
    title: str
    client: str
    licence: str
    slot: int
    leaf: int
    lambda_1024: int
    t: int
    claim: str
    picture: str


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """One file of a release."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Release:
    """One published release; ``size`` is the ledger's when it was planned."""

    n: int
    t: int
    size: int
    leaf: int
    files: tuple[ReleaseFile, ...]
    concepts: tuple[Concept, ...]
    left_out: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One ledger leaf: its place, its kind, its canonical bytes."""

    index: int
    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class LedgerState:
    """The newest signed checkpoint: how many leaves, their root (hex), the note as published."""

    size: int
    root: str
    note: str
    ledger_key: str


@dataclass(frozen=True, slots=True)
class Proof:
    """A leaf, the hashes that lead to a root, the leaf's sibling first, and that root's state."""

    leaf: Leaf
    path: tuple[str, ...]
    state: LedgerState
