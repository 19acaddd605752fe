"""The store check itself: it is content with a good folder, and names each way to break one."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .forked import Nursery, copied, founded
from .member import Member
from .store_check import check


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Path, list[bytes]]:
    """Give a folder with two contributions and a release, and the two receipts."""
    folder = founded(tmp_path_factory.mktemp("good"), slots=8, kib=2)
    receipts = []
    with Nursery() as nursery, nursery.answer(folder) as coordinator:
        member = Member(coordinator.joining(coordinator.ask("invite")))
        member.join()
        for n in range(2):
            lease = member.lease(f"wren-{n}", (f"wren-{n}",))
            receipts.append(member.contribute(member.pack(lease, seed=n)))
        coordinator.ask("release")
        coordinator.close()
    return folder, receipts


def test_a_good_folder_is_found_good(good):
    """Two contributions, two receipts, one release: no violation, not even of tidiness."""
    found = check(*good, settled=True)

    assert found.violations == []
    assert (found.num_contributions, found.num_leaves) == (2, 7)


def _sql(*queries: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "data" / "state.db")) as db:
            for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
                db.execute(f"DROP TRIGGER {trigger}")
            for query in queries:
                db.execute(query)
            db.commit()

    return change


def _flip(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = next(path for path in sorted(folder.glob(pattern)) if path.is_file())
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.unlink()
        path.write_bytes(data)

    return change


def _cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:40])


_FORGOTTEN = (
    "DELETE FROM leaf WHERE idx >= 5",
    "DELETE FROM contribution WHERE leaf >= 5",
    "DELETE FROM upload WHERE leaf >= 5",
)


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "blobs removed": (lambda folder: shutil.rmtree(folder / "data" / "blobs"), "has lost its blob"),
    "blob flipped": (_flip("data/blobs/*/*"), "another blob than its manifest says"),
    "receipts forgotten": (
        _sql("UPDATE upload SET leaf = NULL, receipt = NULL"),
        "no receipt stored with it",
    ),
    "receipts overwritten": (
        _sql("UPDATE upload SET receipt = X'0a'"),
        "no receipt stored with it",
    ),
    "upload row deleted": (
        _sql("DELETE FROM upload WHERE leaf = 3"),
        "contribution 3 has no receipt",
    ),
    "row deleted": (
        _sql("DELETE FROM contribution WHERE leaf = 3"),
        "no contribution row of its own",
    ),
    "two in one slot": (
        _sql("UPDATE contribution SET slot = 0, fence = 2 WHERE slot = 1"),
        "slot 0 holds 2 live contributions",
    ),
    "slot freed": (_sql("UPDATE slot SET state = 'free'"), "slot 0 is free and holds 1 live"),
    "fence raised": (_sql("UPDATE slot SET fence = 7 WHERE id = 1"), "slot 1 stands at fence 7"),
    "leaf rewritten": (
        _sql("UPDATE leaf SET body = CAST(replace(body, 'wren-0', 'wren-9') AS BLOB)"),
        "not of these leaves",
    ),
    "leaf hash zeroed": (
        _sql("UPDATE leaf SET hash = zeroblob(32) WHERE idx = 2"),
        "leaf 2 is out of place",
    ),
    "newest forgotten": (_sql(*_FORGOTTEN), "an acknowledged receipt is not of this ledger"),
    "release flipped": (_flip("public/releases/1/lora/*"), "release 1 is not whole"),
    "head cut": (_cut("public/head.json"), "a public file is not whole"),
    "checkpoint cut": (_cut("public/checkpoint"), "a public file is not whole"),
    "ledger shortened": (
        _sql("DELETE FROM leaf WHERE idx = 6"),
        "checkpoint is ahead of the database",
    ),
    "temporary left": (
        lambda folder: (folder / "public" / ".x.tmp").touch(),
        ".x.tmp was left behind",
    ),
    "part left": (lambda folder: (folder / "data" / "part" / "00").touch(), "is of no open upload"),
    "blob left": (
        lambda folder: (folder / "data" / "blobs" / "00" / "0").touch(),
        "is of no upload",
    ),
    "release folder left": (
        lambda folder: (folder / "public" / "releases" / "2").mkdir(),
        "is in no row",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_folder_is_told_from_a_good_one(good, tmp_path, name):
    """One thing is changed behind the coordinator's back, and the check names it."""
    change, says = BREAKS[name]
    folder = copied(good[0], tmp_path / "fed")

    change(folder)

    assert any(says in violation for violation in check(folder, good[1], settled=True).violations)
