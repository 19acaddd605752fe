"""Names that an earlier version's rule kept apart and that read alike today (T23, format 4)."""

import contextlib
import sqlite3

import pytest

from orthofed.coordinator import migrations
from orthofed.coordinator.rowcheck import check_rows
from orthofed.core import names
from orthofed.core.errors import Refused
from orthofed.core.spec import Limits

from .serving import Running, founded, running

_SINCE = (
    *(("slot", "kept"), ("lease", "replaces"), ("contribution", "first")),
    *(("slot", "home"), ("lease", "block"), ("lease", "joins"), ("lease", "share")),
)
"""Columns that formats after 3 added to its tables."""
_BEFORE = str.maketrans("01i2589", "ollzsbg", "-")


def skeleton_before(slug: str) -> str:
    """Return what formats 1 to 3 kept: pairs merged from the left."""
    read = slug.translate(_BEFORE)
    for pair, single in (("rn", "m"), ("vv", "w"), ("cl", "d")):
        read = read.replace(pair, single)
    return read


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """`vw` and `vvv` in one database of format 3, and a name whose skeleton only changes."""
    limits = Limits(operator_slots_percent=0, leases_a_day=100)
    made = founded(tmp_path, limits=limits)
    with monkeypatch.context() as patch:
        patch.setattr(names, "skeleton", skeleton_before)
        with running(made) as coordinator:
            owners = [coordinator.member() for _ in range(3)]
            leases = [
                owners[0].lease("vwx", ("vwx-k7",)),
                owners[1].lease("vvvx", ("vvvx-k7",)),
                owners[2].lease("dora", ("dora-k7",)),
            ]
    made.database_sum.unlink()  # the database of an earlier version is put in its place
    with contextlib.closing(sqlite3.connect(made.database, isolation_level=None)) as db:
        rows = db.execute("SELECT kind, skeleton, name, member, slot, fence FROM name").fetchall()
        db.execute("DROP TABLE name")
        for statement in migrations._FORMAT_1.split(";\n"):
            if "TABLE name" in statement or "ON name" in statement:
                db.execute(statement)
        db.executemany("INSERT INTO name VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.execute("DROP VIEW standing")
        db.execute("DROP INDEX contribution_of")
        db.execute("DROP INDEX lease_joins")
        for table, column in _SINCE:
            db.execute(f"ALTER TABLE {table} DROP {column}")
        later = migrations.schema(db) - migrations.schema_of(3)
        for made_later in (name for name, sql in later if sql.startswith("CREATE TABLE")):
            db.execute(f"DROP TABLE {made_later}")
        db.execute("PRAGMA user_version = 3")
        assert migrations.schema(db) == migrations.schema_of(3)
        assert list(check_rows(db)) == []
    return made, owners, leases


def reached(coordinator: Running, member):
    """Return the member with a link to the coordinator as it listens now."""
    other = coordinator.member()
    other.key = member.key
    return other


def refused(ask) -> str:
    with pytest.raises(Refused) as error:
        ask()
    return error.value.code


def test_both_owners_keep_their_own_and_no_third_gets_in_between(folder):
    """Each gives its lease back and takes its name again, letter by letter; nobody else can."""
    made, owners, leases = folder
    with running(made) as coordinator:
        ana, ben, third = (reached(coordinator, member) for member in owners)
        for member, lease in zip((ana, ben, third), leases, strict=True):
            member.give_back(lease)

        again = ben.lease("vvvx", ("vvvx-k7",))
        mine = ana.lease("vwx", ("vwx-k7",))
        ana.contribute(ana.pack(mine))

        for member in (third, ben):
            assert refused(lambda m=member: m.lease("vwx", ("oak-k7",))) == "name-taken"
            assert refused(lambda m=member: m.lease("oak", ("vwx-k7",))) == "name-taken"
        for name in ("vvvx", "wvx", "v-vvx"):
            assert refused(lambda n=name: third.lease(n, ("oak-k7",))) == "name-taken"
            assert refused(lambda n=name: third.lease("oak", (f"{n}-k7",))) == "name-taken"
        assert refused(lambda: ana.lease("wvx", ("oak-k7",))) == "name-taken"
        ben.contribute(ben.pack(again))
        assert refused(lambda: ben.lease("vvvx", ("oak-k7",))) == "name-taken"  # carried now
        assert coordinator.house.store.run(lambda db: list(check_rows(db))) == []


def test_a_name_whose_skeleton_only_changes_is_its_owners_as_before(folder):
    """`dora` was kept as `dora` and is kept as `clora`."""
    made, owners, leases = folder
    with running(made) as coordinator:
        cy, third = reached(coordinator, owners[2]), coordinator.member()
        cy.give_back(leases[2])

        assert refused(lambda: third.lease("dora", ("oak-k7",))) == "name-taken"
        assert refused(lambda: third.lease("oak", ("clora-k7",))) == "name-taken"
        cy.lease("clora", ("clora-k7",))


def test_twins_of_one_member_stay_two_names(folder):
    """One of them is carried by a contribution: taking the other again does not free the first."""
    made, owners, leases = folder
    ana, ben, _ = (member.key.public_hex for member in owners)
    with contextlib.closing(sqlite3.connect(made.database)) as db, db:
        db.execute("UPDATE lease SET member = ? WHERE member = ?", (ana, ben))
        db.execute("UPDATE name SET member = ? WHERE member = ?", (ana, ben))
        db.execute("UPDATE slot SET member = ? WHERE member = ?", (ana, ben))
    with running(made) as coordinator:
        both = reached(coordinator, owners[0])
        both.contribute(both.pack(leases[0]))
        both.give_back(leases[1])

        both.lease("vvvx", ("vvvx-k7",))

        assert refused(lambda: both.lease("vwx", ("oak-k7",))) == "name-taken"
        assert refused(lambda: both.lease("oak", ("vwx-k7",))) == "name-taken"
        assert coordinator.house.store.run(lambda db: list(check_rows(db))) == []
