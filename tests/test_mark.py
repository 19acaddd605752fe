"""The high-water mark: an old database is noticed, and going on from it is said in public (T28)."""

import json
import shutil

import pytest

from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.folder import DataFolder, Settings
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.ledger import Ledger
from orthofed.coordinator.mark import check_mark, declare, here
from orthofed.coordinator.store import Store
from orthofed.core.errors import VerificationFailed
from orthofed.core.keys import SigningKey
from orthofed.core.leaf import lease_leaf

from .seeded import Bug
from .serving import FastFs

LEDGER = Ledger(SigningKey.from_seed(b"\2" * 32), "5" * 64)


@pytest.fixture
def folder(tmp_path):
    made = DataFolder(tmp_path / "fed")
    made.root.mkdir()
    made.make(Fs())
    mark = tmp_path / "elsewhere" / "mark"
    mark.parent.mkdir()
    settings = Settings(base=tmp_path, high_water=str(mark))
    made.settings_file.write_text(settings.to_toml())
    Store(made.database, fs=FastFs(), new=True).close()
    return made


def grow(store: Store, by: int, client: str) -> None:
    for fence in range(1, by + 1):
        body = lease_leaf(client=client * 64, fence=fence, slot=0, triggers=["abc"])
        store.run(lambda db, b=body: LEDGER.append(db, b))


def starts(folder: DataFolder) -> str:
    """Open as a start does; return the code of the refusal, empty for none."""
    store = Store(folder.database, fs=FastFs())
    try:
        store.run(lambda db: check_mark(db, folder.mark_file()))
    except VerificationFailed as error:
        return error.code
    finally:
        store.close()
    return ""


def run_and_mark(folder: DataFolder, by: int, client: str = "a") -> None:
    """Do what a run does: append, then write the mark."""
    store = Store(folder.database, fs=FastFs())
    grow(store, by, client)
    FastFs().write_whole(folder.mark_file(), store.run(here).to_bytes())
    store.close()


def old_copies_started(folder: DataFolder, num: int) -> int:
    """Put back each of some older copies of the database; return how many start."""
    copies = []
    run_and_mark(folder, 3)
    for i in range(num):
        copies.append(folder.root.parent / f"{i}.db")
        shutil.copy(folder.database, copies[-1])
        run_and_mark(folder, 1)
    started = 0
    for copy in copies:
        shutil.copy(copy, folder.database)
        started += starts(folder) != "database-behind"
    return started


def test_each_of_a_hundred_older_databases_is_refused(folder):
    """T28, R19: the mark lies on another volume and knows more than the copy does."""
    assert old_copies_started(folder, 100) == 0
    assert folder.mark_file().parent.name == "elsewhere"


def test_the_newest_database_starts_and_so_does_one_that_is_ahead(folder):
    """A kill between COMMIT and mark leaves the database ahead: that is no fork."""
    run_and_mark(folder, 3)
    assert starts(folder) == ""
    store = Store(folder.database, fs=FastFs())
    grow(store, 5, "b")
    store.close()

    assert starts(folder) == ""


def test_another_history_of_greater_length_is_refused_too(folder, tmp_path):
    """The copy was gone on with elsewhere: longer than the mark, and not its continuation."""
    run_and_mark(folder, 3)
    shutil.copy(folder.database, tmp_path / "copy.db")
    run_and_mark(folder, 2)
    shutil.copy(tmp_path / "copy.db", folder.database)
    store = Store(folder.database, fs=FastFs())
    grow(store, 5, "f")
    store.close()

    assert starts(folder) == "database-behind"


def test_a_lost_or_damaged_mark_is_refused_once_anything_was_promised(folder):
    """The other volume is not mounted: the guard is not silently off."""
    assert starts(folder) == ""
    run_and_mark(folder, 3)
    folder.mark_file().write_text("{")
    damaged = starts(folder)
    folder.mark_file().unlink()

    assert (damaged, starts(folder)) == ("bad-high-water", "no-high-water")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        '{"root": "", "size": 1e999}',
        '{"root": "ROOT", "size": "3"}',
        '{"root": "ROOT", "size": -1}',
        '{"root": 0, "size": 3}',
        "[" * 100_000,
    ],
)
def test_a_mark_of_another_shape_is_refused_like_a_damaged_one(folder, text):
    """Infinity and deep nesting got past the reader as errors that nobody foresaw."""
    folder.mark_file().write_text(text.replace("ROOT", "0" * 64))

    assert starts(folder) == "bad-high-water"


def test_the_operator_can_go_on_and_everybody_can_read_it(folder, tmp_path):
    """After ``fork`` the copy starts; what was kept and lost stands in public, each time anew."""
    for _ in range(2):
        run_and_mark(folder, 3)
        shutil.copy(folder.database, tmp_path / "copy.db")
        run_and_mark(folder, 4)
        shutil.copy(tmp_path / "copy.db", folder.database)
        store = Store(folder.database, fs=FastFs())
        store.run(lambda db: declare(db, folder, fs=FastFs(), clock=SystemClock()))
        store.close()
        assert starts(folder) == ""

    told = json.loads((folder.public / "forks.json").read_text())
    assert [(each["kept"], each["lost_to"]) for each in told] == [(3, 7), (6, 10)]


@pytest.mark.parametrize("text", ["[{", "{}", "[" * 100_000, "\xff"])
def test_a_fork_writes_over_no_damaged_history_of_forks(folder, text):
    """What earlier forks lost is told by that file alone; the mark stays as it was."""
    run_and_mark(folder, 3)
    (folder.public / "forks.json").write_text(text, "latin-1")
    before = folder.mark_file().read_bytes()
    store = Store(folder.database, fs=FastFs())

    with pytest.raises(VerificationFailed, match="move it away") as refused:
        store.run(lambda db: declare(db, folder, fs=FastFs(), clock=SystemClock()))
    store.close()

    assert refused.value.code == "bad-forks"
    assert folder.mark_file().read_bytes() == before


@pytest.mark.parametrize("name", ["mark-not-compared"])
def test_a_seeded_bug_of_the_mark_is_caught(folder, name, monkeypatch):
    """The comparison is missing: old copies start, and the count says so."""
    with Bug.named(name).in_process():
        from orthofed.coordinator import mark  # noqa: PLC0415  # the patched one

        monkeypatch.setitem(globals(), "check_mark", mark.check_mark)
        assert old_copies_started(folder, 5) > 0
