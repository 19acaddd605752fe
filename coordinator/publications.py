"""The rows of releases: what is planned, what is published.

Laws (reliability.md 2.5): the plan holds everything that varies (leaves, lambdas, ledger size,
time, the release before), so building it twice gives the same bytes; at most one plan is open, and
it is dropped when something that it holds was taken out before it was published; a published row is
never changed. Not here: building (publisher.py), what a plan holds (release_planning.py).
"""

import base64
import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Self

from ..core.document import parse
from ..core.kinds import DERIVED
from ..core.release import ReleaseManifest, Why


@dataclass(frozen=True, slots=True)
class Included:
    """One contribution of a release: its signed manifest, and the vectors of its lease."""

    leaf: int
    slot: int
    fence: int
    lambda_1024: int
    vectors: tuple[int, ...]
    document: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What release ``n`` holds; ``size`` leaves of ledger, ``t`` Unix seconds.

    ``withdrawn``: (slot, leaf) of every contribution that was withdrawn before the plan.
    ``derived``: the kinds of files that are not published; info.json has their hashes.
    ``lambda_1024``: what it was asked for; 0 in a plan of before that was kept.
    """

    n: int
    t: int
    size: int
    prev: str
    fed: str
    log: str
    included: tuple[Included, ...]
    left_out: tuple[tuple[int, Why], ...]
    withdrawn: tuple[tuple[int, int], ...] = ()
    derived: tuple[str, ...] = DERIVED
    lambda_1024: int = 0

    @property
    def slots(self) -> frozenset[int]:
        """The slots whose contribution it holds."""
        return frozenset(item.slot for item in self.included)

    def to_bytes(self) -> bytes:
        """Return the plan as the store and the control socket carry it."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the plan that ``to_bytes`` wrote."""
        value = json.loads(data)
        included = tuple(
            Included(**{**item, "vectors": tuple(item["vectors"])})
            for item in value.pop("included")
        )
        left_out: tuple[tuple[int, Why], ...] = tuple(
            (leaf, why) for leaf, why in value.pop("left_out")
        )
        withdrawn = tuple((slot, leaf) for slot, leaf in value.pop("withdrawn", ()))
        derived = tuple(value.pop("derived", DERIVED))
        return cls(
            included=included, left_out=left_out, withdrawn=withdrawn, derived=derived, **value
        )


@dataclass(frozen=True, slots=True)
class Published:
    """One published release."""

    n: int
    plan: Plan
    document: bytes
    leaf: int
    receipt: bytes

    @property
    def manifest_id(self) -> str:
        """The id of its manifest."""
        return parse(self.document, kind="release").id


def document_text(document: bytes) -> str:
    """Return a signed manifest as a plan holds it."""
    return base64.b64encode(document).decode()


def planned(db: sqlite3.Connection) -> Plan | None:
    """Return the open plan, if there is one."""
    row = db.execute("SELECT plan FROM release WHERE state = 'planned'").fetchone()
    return None if row is None else Plan.from_bytes(row[0])


def add_plan(db: sqlite3.Connection, plan: Plan) -> None:
    """Write an open plan."""
    query = "INSERT INTO release VALUES (?, 'planned', ?, NULL, NULL, NULL)"
    db.execute(query, (plan.n, plan.to_bytes()))


def drop_plan(db: sqlite3.Connection, n: int) -> None:
    """Forget the open plan; nobody has seen anything of it."""
    if db.execute("DELETE FROM release WHERE n = ? AND state = 'planned'", (n,)).rowcount != 1:
        raise AssertionError(f"release {n} has no open plan")


def publish(db: sqlite3.Connection, n: int, *, document: bytes, leaf: int, receipt: bytes) -> None:
    """Turn the open plan into a published release."""
    changed = db.execute(
        "UPDATE release SET state = 'published', document = ?, leaf = ?, receipt = ?"
        " WHERE n = ? AND state = 'planned'",
        (document, leaf, receipt, n),
    ).rowcount
    if changed != 1:
        raise AssertionError(f"release {n} has no open plan")


_PUBLISHED = "SELECT n, plan, document, leaf, receipt FROM release WHERE state = 'published'"


def numbers(db: sqlite3.Connection) -> tuple[int, ...]:
    """Return the published release numbers, ascending."""
    rows = db.execute("SELECT n FROM release WHERE state = 'published' ORDER BY n")
    return tuple(row[0] for row in rows)


def released_leaves(db: sqlite3.Connection, *, after: int) -> tuple[frozenset[int], int]:
    """Return the contributions of all releases beyond ``after``, and the newest number seen."""
    query = "SELECT n, document FROM release WHERE state = 'published' AND n > ? ORDER BY n"
    leaves = set[int]()
    for n, document in db.execute(query, (after,)):
        after = n
        manifest = ReleaseManifest.from_document(parse(document, kind="release"))
        leaves.update(leaf for leaf, _ in manifest.contributions)
    return frozenset(leaves), after


def published(db: sqlite3.Connection, n: int) -> Published | None:
    """Return one published release."""
    return _one(db.execute(_PUBLISHED + " AND n = ?", (n,)))


def newest(db: sqlite3.Connection) -> Published | None:
    """Return the newest published release."""
    return _one(db.execute(_PUBLISHED + " ORDER BY n DESC LIMIT 1"))


def _one(rows: sqlite3.Cursor) -> Published | None:
    row = rows.fetchone()
    if row is None:
        return None
    n, plan, document, leaf, receipt = row
    return Published(n, Plan.from_bytes(plan), document, leaf, receipt)
