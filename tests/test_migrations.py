"""Databases of earlier formats open in this version, whole or not at all (R20)."""

import contextlib
import gzip
import json
import shutil
import sqlite3

import pytest

from orthofed.coordinator import migrations
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.rowcheck import check_rows
from orthofed.coordinator.store import Store
from orthofed.core.errors import VerificationFailed

from .database_fixture import FOLDER, look, write_this_format
from .serving import FastFs

FORMATS = sorted(int(path.name.split("-")[1].split(".")[0]) for path in FOLDER.glob("*.gz"))


def stored(number: int, path):
    path.write_bytes(gzip.decompress((FOLDER / f"state-{number}.db.gz").read_bytes()))
    return path


def schema(path) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY name"
        ).fetchall()


def test_this_versions_database_is_stored(tmp_path):
    """Whoever raises FORMAT stores a database of it; this test writes it once, and fails once."""
    if migrations.FORMAT not in FORMATS:
        write_this_format(tmp_path)
        pytest.fail(f"tests/databases/state-{migrations.FORMAT} was written now: commit it")


@pytest.mark.parametrize("number", FORMATS)
def test_a_database_of_every_format_opens_with_equal_answers(number, tmp_path):
    """Slots, leaves, receipts and releases are what they were; the old file is kept beside."""
    path = stored(number, tmp_path / "state.db")
    before = json.loads((FOLDER / f"state-{number}.json").read_text())
    before["names"] = sorted([kind, *rest[-3:]] for kind, *rest in before["names"])
    with contextlib.closing(sqlite3.connect(path)) as db:
        earlier = list(check_rows(db))  # as of a backup, which is checked before it is migrated

    store = Store(path, fs=Fs())
    found = store.run(look)
    wrong = store.run(lambda db: list(check_rows(db)))
    identity = store.run(migrations.found_format)
    store.close()

    assert {name: found[name] for name in before} == before
    assert earlier == wrong == []
    assert identity == (migrations.APPLICATION_ID, migrations.FORMAT)
    kept = tmp_path / f"state.format-{number}.db"
    assert kept.exists() == (number < migrations.FORMAT)
    if kept.exists():  # who goes back to the old program puts it in its place (deploy/README.md)
        with contextlib.closing(sqlite3.connect(kept)) as db:
            assert migrations.found_format(db) == (migrations.APPLICATION_ID, number)
            assert list(check_rows(db)) == []
        shutil.copy(kept, path)
        again = Store(path, fs=Fs())
        assert again.run(look) == found
        again.close()
    Store(tmp_path / "new.db", fs=Fs(), new=True).close()
    assert schema(path) == schema(tmp_path / "new.db")


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    """The last step breaks: no table of any step is there, and the next start does all of them."""
    path = stored(1, tmp_path / "state.db")
    before = schema(path)

    def breaks(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "_STEPS", (*migrations._STEPS, breaks))
        with pytest.raises(sqlite3.OperationalError):
            Store(path, fs=FastFs())

    assert schema(path) == before
    Store(path, fs=FastFs()).close()
    assert "withdrawal" in {name for _, name, _ in schema(path)}


def test_a_newer_database_is_refused_and_not_touched(tmp_path):
    """A version back: the program says which format it met, and writes nothing."""
    path = stored(1, tmp_path / "state.db")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {migrations.FORMAT + 1}")
    before = path.read_bytes()

    with pytest.raises(VerificationFailed) as refused:
        Store(path, fs=FastFs())

    assert refused.value.code == "unknown-database"
    assert f"format {migrations.FORMAT + 1}" in refused.value.what
    assert path.read_bytes() == before


def test_a_missing_database_is_never_replaced_by_an_empty_one(tmp_path):
    """An unmounted disk or a lost file: refused by name; nothing is made in its place."""
    with pytest.raises(VerificationFailed) as missing:
        Store(tmp_path / "state.db", fs=FastFs())
    Store(tmp_path / "there.db", fs=FastFs(), new=True).close()
    with pytest.raises(VerificationFailed) as there:
        Store(tmp_path / "there.db", fs=FastFs(), new=True)

    assert missing.value.code == there.value.code == "database-misplaced"
    assert not (tmp_path / "state.db").exists()
