"""A file that was replaced under its name is not the one that it was."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orthofed.fleet.same_file import SameFile


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a file."""
    path = tmp_path / "link.db"
    path.write_bytes(b"first")
    return path


def _num_open() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_a_file_is_the_one_that_it_was_whatever_is_written_to_it(place: Path) -> None:
    watched = SameFile(place)

    assert watched.is_there()
    place.write_bytes(b"more than there was")
    assert watched.is_there()


def test_a_file_that_is_gone_is_not_there(place: Path) -> None:
    watched = SameFile(place)
    assert watched.is_there()

    place.unlink()

    assert not watched.is_there()


def test_another_one_under_its_name_is_not_it_even_if_it_gets_its_number(place: Path) -> None:
    """Many file systems give the number of a removed file to the next one that is made."""
    for _ in range(20):
        watched = SameFile(place)
        assert watched.is_there()

        place.unlink()
        place.write_bytes(b"first")

        assert not watched.is_there()


def test_a_database_that_its_process_opens_anew_is_not_it(tmp_path: Path) -> None:
    """What SuperLink does: a connection for each call, and the file comes back, without tables."""
    path = tmp_path / "link.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE run (id INTEGER)")
    watched = SameFile(path)
    assert watched.is_there()

    path.unlink()
    with (
        closing(sqlite3.connect(path)) as db,
        pytest.raises(sqlite3.OperationalError, match="no such table"),
    ):
        db.execute("SELECT * FROM run")

    assert path.exists()
    assert not watched.is_there()


def test_begun_again_it_takes_what_is_there_and_holds_one_file(place: Path) -> None:
    watched = SameFile(place)
    before = _num_open()
    for _ in range(5):
        assert watched.is_there()
        place.unlink()
        place.write_bytes(b"another")
        assert not watched.is_there()
        watched.begin()
        assert watched.is_there()

    assert _num_open() == before + 1


def test_a_name_that_leads_nowhere_yet_is_not_there_and_then_is(tmp_path: Path) -> None:
    path = tmp_path / "later"
    watched = SameFile(path)

    assert not watched.is_there()
    path.write_bytes(b"")
    assert watched.is_there()
