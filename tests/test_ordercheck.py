"""Orders, node keys and scores that say something else than the ledger are named by doctor."""

import gzip
import sqlite3
from contextlib import closing

import pytest

from orthofed.coordinator.migrations import FORMAT
from orthofed.coordinator.ordercheck import check_orders

from .database_fixture import FOLDER

TAUGHT = (
    "UPDATE fleet_order SET state = 'done', leaf = (SELECT c.leaf FROM contribution c"
    " JOIN lease l ON l.slot = c.slot AND l.fence = c.fence WHERE l.concept = 'bert')"
    " WHERE kind = 'train'"
)


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "state.db"
    path.write_bytes(gzip.decompress((FOLDER / f"state-{FORMAT}.db.gz").read_bytes()))
    with closing(sqlite3.connect(path)) as opened:
        yield opened


def test_a_sound_database_is_found_sound(db):
    """Orders in each state, two node keys and a score."""
    assert list(check_orders(db)) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE fleet_order SET leaf = 3 WHERE kind = 'train'", "is open and names leaf 3"),
        ("UPDATE fleet_order SET state = 'done' WHERE kind = 'train'", "is done and names leaf"),
        (TAUGHT, "did something else"),
        ("UPDATE fleet_order SET state = 'done', leaf = 3 WHERE kind = 'score'", "something else"),
        ("UPDATE fleet_order SET size = 0 WHERE kind = 'train'", "carried it out"),
        (
            "UPDATE fleet_order SET member = (SELECT member FROM revocation)",
            "waits for a member that was revoked",
        ),
        (
            "UPDATE fleet_order SET member = (SELECT old FROM rotation)",
            "a row of fleet_order is still its own",
        ),
        (
            "UPDATE fleet_key SET member = (SELECT old FROM rotation)",
            "a row of fleet_key is still its own",
        ),
        ("UPDATE score SET leaf = leaf + 1", "does not hold it"),
        ("UPDATE score SET release = 2", "does not hold it"),
        ("UPDATE fleet_key SET public_key = public_key || ' ana' WHERE n = 1", "another spelling"),
    ],
    ids=lambda value: value[:60],
)
def test_a_row_that_says_something_else_is_named(db, change, named):
    """One value changed; what is wrong is said in words."""
    db.execute("PRAGMA foreign_keys = OFF")
    assert db.execute(change).rowcount

    assert any(named in told for told in check_orders(db))


def test_the_train_order_of_a_leaf_that_came_later_is_done(db):
    """An order that is older than its contribution, closed by it, is right."""
    db.execute(TAUGHT)
    db.execute("UPDATE fleet_order SET size = 0 WHERE kind = 'train'")

    assert list(check_orders(db)) == []
