"""Who may join a concept that another member owns: by a share of its first owner, and not else.

Laws (T29, docs/adr/0032): the share names a public contribution of a slot's own owner, which stands
and counted its images; names and vectors are that one's; a member owns one part of a concept; a
share lets in as many as it says, counted by contributions, for good. What core/standing.py would
refuse in the ledger is refused here before it gets there. Not here: signatures (core/share.py), how
many owners a concept has at once (leases.py).
"""

import sqlite3

from ..core.canonical import encode
from ..core.contribution import ContributionManifest
from ..core.document import parse
from ..core.errors import Refused
from ..core.share import Share
from . import contribution_rows, lease_rows
from .holding import live
from .lease_rows import Lease

Names = tuple[str, tuple[str, ...], tuple[int, ...]]
"""Concept, triggers, vectors."""


def joinable(db: sqlite3.Connection, share: Share, member: str, names: Names, *, log: str) -> int:
    """Return the first contribution of the concept that ``share`` lets ``member`` into.

    Raises Refused ``not-shared``: there is none, or not for this member.
    """
    entry, found = (
        contribution_rows.of_leaf(db, share.leaf),
        contribution_rows.readable(db, share.leaf),
    )
    if share.log != log or entry is None or found is None:
        raise _not_shared("a share of nothing in this ledger")
    lease, upload = found
    given = (lease.client, lease.slot, lease.joins) == (share.client, share.slot, None)
    if not given or (lease.concept, lease.triggers, lease.vectors) != names:
        raise _not_shared("a share of another concept, or by somebody who is not its first owner")
    manifest = ContributionManifest.from_body(parse(upload.document, kind="contribution").body)
    if not manifest.count or live(contribution_rows.of_concept(db, entry.first)) is None:
        raise _not_shared(f"contribution {share.leaf}, which stands in no slot or is not shared")
    mine = [each for each in lease_rows.joined(db, entry.first) if each.member == member]
    if lease.member == member or any(_stands(db, each) for each in mine):
        raise _not_shared("a concept that is this member's already")
    check_uses(db, share)
    return entry.first


def check_uses(db: sqlite3.Connection, share: Share) -> None:
    """Refuse one owner more than the share lets in. Raises Refused ``not-shared``."""
    used = lease_rows.num_joined(db, encode(share.value).decode("ascii"))
    if used >= share.uses:
        raise _not_shared(f"a share that {used} owners used, allowed are {share.uses}")


def is_joined(db: sqlite3.Connection, first: int) -> bool:
    """Return whether others than its first owner hold a part of the concept."""
    return any(_stands(db, each) for each in lease_rows.joined(db, first))


def _stands(db: sqlite3.Connection, lease: Lease) -> bool:
    entry = contribution_rows.at(db, lease.slot, lease.fence)
    return entry is not None and entry.state != "withdrawn"


def _not_shared(what: str) -> Refused:
    return Refused(
        what,
        why="a concept is taught by its owner, and by whom its owner gives a share of it",
        fix="ask the concept's first owner for a new share: orthofed client share",
        code="not-shared",
    )
