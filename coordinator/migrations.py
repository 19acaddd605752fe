"""The database's formats: each is made from the one before by one numbered step.

Laws: ``user_version`` is the format; all missing steps run in one transaction, so a kill leaves the
old format or the new one; an existing database is copied first (store.py). A step never changes
once it was released: tests/databases holds a database of each format, and every later version opens
it (R20). A new database takes the same way, from nothing. Source: reliability.md 2.2 and 2.7.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator

from ..core.names import skeleton

APPLICATION_ID = 0x4F46_4431  # "OFD1"

_FORMAT_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE head (
  id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL, peaks BLOB NOT NULL,
  checkpoint BLOB NOT NULL) STRICT;
CREATE TABLE keyring (n INTEGER PRIMARY KEY, document BLOB NOT NULL) STRICT;
CREATE TABLE invite (
  key TEXT PRIMARY KEY, uses_left INTEGER NOT NULL CHECK (uses_left >= 0),
  until INTEGER NOT NULL, operator INTEGER NOT NULL) STRICT;
CREATE TABLE member (
  key TEXT PRIMARY KEY, invite TEXT NOT NULL REFERENCES invite (key),
  operator INTEGER NOT NULL) STRICT;
CREATE TABLE slot (
  id INTEGER PRIMARY KEY, state TEXT NOT NULL, fence INTEGER NOT NULL, client TEXT NOT NULL,
  member TEXT NOT NULL, held_s INTEGER NOT NULL) STRICT;
CREATE TABLE lease (
  member TEXT NOT NULL REFERENCES member (key), request TEXT NOT NULL, slot INTEGER NOT NULL,
  fence INTEGER NOT NULL, client TEXT NOT NULL UNIQUE, concept TEXT NOT NULL,
  triggers TEXT NOT NULL, vectors TEXT NOT NULL, day INTEGER NOT NULL, leaf INTEGER NOT NULL,
  PRIMARY KEY (member, request), UNIQUE (slot, fence)) STRICT;
CREATE TABLE name (
  kind TEXT NOT NULL CHECK (kind IN ('concept', 'trigger')), skeleton TEXT NOT NULL,
  name TEXT NOT NULL, member TEXT NOT NULL, slot INTEGER NOT NULL, fence INTEGER NOT NULL,
  PRIMARY KEY (kind, skeleton)) STRICT;
CREATE TABLE upload (
  id BLOB PRIMARY KEY, slot INTEGER NOT NULL, fence INTEGER NOT NULL, client TEXT NOT NULL,
  document BLOB NOT NULL, chunks BLOB NOT NULL, blob TEXT NOT NULL, bytes INTEGER NOT NULL,
  leaf INTEGER UNIQUE, receipt BLOB,
  UNIQUE (slot, fence), CHECK ((leaf IS NULL) = (receipt IS NULL))) STRICT;
CREATE TABLE leaf (
  idx INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TRIGGER leaf_no_update BEFORE UPDATE ON leaf BEGIN SELECT RAISE (ABORT, 'append-only'); END;
CREATE TRIGGER leaf_no_delete BEFORE DELETE ON leaf BEGIN SELECT RAISE (ABORT, 'append-only'); END;
CREATE TRIGGER name_no_delete BEFORE DELETE ON name BEGIN SELECT RAISE (ABORT, 'for ever'); END;
CREATE TABLE contribution (
  leaf INTEGER PRIMARY KEY REFERENCES leaf (idx), slot INTEGER NOT NULL, fence INTEGER NOT NULL,
  state TEXT NOT NULL
    CHECK (state IN ('pending', 'accepted', 'quarantined', 'rejected', 'withdrawn')),
  why TEXT NOT NULL, figures TEXT NOT NULL, UNIQUE (slot, fence)) STRICT;
CREATE TABLE release (
  n INTEGER PRIMARY KEY, state TEXT NOT NULL CHECK (state IN ('planned', 'published')),
  plan BLOB NOT NULL, document BLOB, leaf INTEGER UNIQUE, receipt BLOB) STRICT;
"""

_FORMAT_2 = """
CREATE TABLE withdrawal (
  contribution INTEGER PRIMARY KEY REFERENCES contribution (leaf),
  leaf INTEGER NOT NULL UNIQUE REFERENCES leaf (idx), receipt BLOB NOT NULL) STRICT;
"""

_FORMAT_3 = """
CREATE TABLE revocation (
  member TEXT PRIMARY KEY REFERENCES member (key), t INTEGER NOT NULL, why TEXT NOT NULL) STRICT;
CREATE TRIGGER revocation_no_delete BEFORE DELETE ON revocation
BEGIN SELECT RAISE (ABORT, 'for ever'); END;
"""

_FORMAT_4 = """
DROP TRIGGER name_no_delete;
ALTER TABLE name RENAME TO name_before;
CREATE TABLE name (
  kind TEXT NOT NULL CHECK (kind IN ('concept', 'trigger')), skeleton TEXT NOT NULL,
  twin INTEGER NOT NULL, name TEXT NOT NULL, member TEXT NOT NULL, slot INTEGER NOT NULL,
  fence INTEGER NOT NULL, PRIMARY KEY (kind, skeleton, twin)) STRICT;
CREATE TRIGGER name_no_delete BEFORE DELETE ON name BEGIN SELECT RAISE (ABORT, 'for ever'); END;
"""

_FORMAT_5 = """
CREATE TABLE rotation (
  old TEXT PRIMARY KEY REFERENCES member (key), new TEXT NOT NULL UNIQUE REFERENCES member (key),
  day INTEGER NOT NULL, document BLOB NOT NULL) STRICT;
CREATE TRIGGER rotation_no_delete BEFORE DELETE ON rotation
BEGIN SELECT RAISE (ABORT, 'for ever'); END;
CREATE TABLE keyring_proof (
  n INTEGER PRIMARY KEY REFERENCES keyring (n), proof BLOB NOT NULL) STRICT;
"""

_FORMAT_6 = """
CREATE TABLE fleet_order (
  id BLOB PRIMARY KEY CHECK (length(id) = 16), member TEXT NOT NULL REFERENCES member (key),
  kind TEXT NOT NULL CHECK (kind IN ('train', 'score', 'withdraw')), concept TEXT NOT NULL,
  release INTEGER NOT NULL, state TEXT NOT NULL
    CHECK (state IN ('open', 'done', 'cancelled', 'expired')),
  made INTEGER NOT NULL, until INTEGER NOT NULL, size INTEGER NOT NULL, leaf INTEGER) STRICT;
CREATE UNIQUE INDEX fleet_order_once ON fleet_order (member, kind, concept, release)
  WHERE state = 'open';
CREATE INDEX fleet_order_of ON fleet_order (member, kind, concept);
CREATE TABLE fleet_key (
  n INTEGER PRIMARY KEY, member TEXT NOT NULL REFERENCES member (key),
  public_key TEXT NOT NULL UNIQUE, day INTEGER NOT NULL, node TEXT UNIQUE) STRICT;
CREATE INDEX fleet_key_of ON fleet_key (member, n);
CREATE TABLE score (
  release INTEGER NOT NULL REFERENCES release (n), leaf INTEGER NOT NULL REFERENCES leaf (idx),
  base INTEGER NOT NULL, single INTEGER NOT NULL, merged INTEGER NOT NULL,
  pictures INTEGER NOT NULL, draws INTEGER NOT NULL, t INTEGER NOT NULL,
  PRIMARY KEY (release, leaf)) STRICT;
"""

_FORMAT_7 = """
ALTER TABLE slot ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
UPDATE slot SET kept = fence WHERE state IN ('filled', 'emptying');
ALTER TABLE lease ADD COLUMN replaces INTEGER;
ALTER TABLE contribution ADD COLUMN first INTEGER NOT NULL DEFAULT 0;
UPDATE contribution SET first = leaf;
CREATE INDEX contribution_of ON contribution (first, leaf);
CREATE VIEW standing AS SELECT leaf, slot, fence,
  CASE WHEN state = 'accepted' AND EXISTS (SELECT 1 FROM contribution later
    WHERE later.first = c.first AND later.leaf > c.leaf AND later.state = 'accepted')
  THEN 'superseded' ELSE state END AS state, why, figures, first FROM contribution c;
"""

_FORMAT_8 = """
ALTER TABLE slot ADD COLUMN home INTEGER NOT NULL DEFAULT -1;
ALTER TABLE lease ADD COLUMN block INTEGER NOT NULL DEFAULT -1;
ALTER TABLE lease ADD COLUMN joins INTEGER;
ALTER TABLE lease ADD COLUMN share TEXT NOT NULL DEFAULT '';
CREATE INDEX lease_joins ON lease (joins) WHERE joins IS NOT NULL;
"""


def _to_1(db: sqlite3.Connection) -> None:
    """Make every table of the first version."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    _run(db, _FORMAT_1)


def _to_2(db: sqlite3.Connection) -> None:
    """Keep the receipt of each withdrawal: it answers every retry."""
    _run(db, _FORMAT_2)


def _to_3(db: sqlite3.Connection) -> None:
    """Keep which member keys the operator revoked."""
    _run(db, _FORMAT_3)


def _to_4(db: sqlite3.Connection) -> None:
    """Keep every name under today's skeleton; those that read alike only now become twins.

    Each stays its member's. A twin above 0 is made here and nowhere else, so the key still lets
    nobody claim a skeleton that is taken (T23, I6).
    """
    _run(db, _FORMAT_4)
    before = db.execute("SELECT kind, name, member, slot, fence FROM name_before ORDER BY rowid")
    num_alike: dict[tuple[str, str], int] = {}
    for kind, name, *rest in before.fetchall():
        read = skeleton(name)
        twin = num_alike.get((kind, read), 0)
        num_alike[kind, read] = twin + 1
        db.execute("INSERT INTO name VALUES (?, ?, ?, ?, ?, ?, ?)", (kind, read, twin, name, *rest))
    db.execute("DROP TABLE name_before")


def _to_5(db: sqlite3.Connection) -> None:
    """Keep which member key took the place of which, and where each later keyring lies."""
    _run(db, _FORMAT_5)


def _to_6(db: sqlite3.Connection) -> None:
    """Keep what the operator asks of members, their Flower nodes, and what they measured."""
    _run(db, _FORMAT_6)


def _to_7(db: sqlite3.Connection) -> None:
    """Keep which contributions are of one concept, and which of them its slot holds."""
    _run(db, _FORMAT_7)


def _to_8(db: sqlite3.Connection) -> None:
    """Keep whose block a seat's lease is of, which concept it joined, and by whose word."""
    _run(db, _FORMAT_8)


_STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    *(_to_1, _to_2, _to_3, _to_4, _to_5),
    *(_to_6, _to_7, _to_8),
)
FORMAT = len(_STEPS)


def found_format(db: sqlite3.Connection) -> tuple[int, int]:
    """Return application id and format of an open database; (0, 0) when it is new."""
    read = [db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version")]
    return read[0], read[1]


def migrate(db: sqlite3.Connection) -> None:
    """Bring the database to this version's format in one transaction."""
    _, start = found_format(db)
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in _STEPS[start:]:
            step(db)
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def schema(db: sqlite3.Connection) -> frozenset[tuple[str, str]]:
    """Return name and text of every table and trigger, as the database keeps them."""
    return frozenset(db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


def schema_of(number: int) -> frozenset[tuple[str, str]]:
    """Return what ``schema`` says of a sound database of a format: all came the same way."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for step in _STEPS[:number]:
            step(db)
        return schema(db)


def _run(db: sqlite3.Connection, script: str) -> None:
    """Run statements inside the open transaction; ``executescript`` would commit it."""
    for statement in _statements(script):
        db.execute(statement)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
