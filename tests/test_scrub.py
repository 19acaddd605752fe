"""`orthofed doctor`: one flipped bit anywhere is found, and the file that has it is named (R16)."""

import contextlib
import datetime as dt
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orthofed.coordinator import doctor, scrub
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.doctor import examine, file_system
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.house import House
from orthofed.coordinator.rotation import newest_public
from orthofed.coordinator.rowcheck import check_rows
from orthofed.coordinator.tls import server_tls
from orthofed.core.errors import InputError

from .forked import founded as small
from .grown import grow
from .seeded import Bug
from .serving import FastFs, TestClock, founded, running

SEED = 20_261_125
UNSIGNED = {
    "invite": ("uses_left", "until", "operator"),
    "member": ("operator",),
    "slot": ("held_s",),
    "lease": ("day",),
    "contribution": ("why", "figures"),
    "meta": ("value",),
    "release": ("plan",),
}
"""Columns that follow from no leaf: only the sum of a closed database covers them (rowcheck.py)."""


def quiet(text: str) -> None:
    del text


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> DataFolder:
    """Give a stopped federation: a release, a later contribution, an upload under way."""
    folder = founded(tmp_path_factory.mktemp("filled"))
    with running(folder) as coordinator:
        for name in ("anna", "bert"):
            member = coordinator.member()
            lease = member.lease(name, (f"{name}-k7",))
            member.contribute(member.pack(lease, seed=sum(name.encode())))
            if name == "anna":
                coordinator.release()
        member = coordinator.member()
        member.begin(member.pack(member.lease("cleo", ("cleo-k7",))))
    return folder


def rotting(folder: DataFolder) -> list[Path]:
    """Every file whose bytes were signed, hashed or acknowledged."""
    files = [path for path in folder.public.rglob("*") if path.is_file()]
    files += [path for path in folder.blobs.rglob("*") if path.is_file()]
    return [folder.database, folder.root / "high-water", *sorted(files)]


def named_flips(folder: DataFolder, num: int, *, seed: int) -> tuple[int, list[str]]:
    """Flip one random bit at a time; return how many were named, and which were not."""
    draw = random.Random(seed)  # noqa: S311  # a replayable draw
    files, missed = rotting(folder), []
    for i in range(num):
        path = files[i % len(files)]
        data = bytearray(path.read_bytes())
        at = draw.randrange(len(data) * 8)
        data[at // 8] ^= 1 << at % 8
        mode, good = path.stat().st_mode, path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data)
        name = path.relative_to(folder.root).as_posix()
        if name not in {each.file for each in examine(folder.root, say=quiet).scrubbed.findings}:
            missed.append(f"{name} bit {at}")
        path.write_bytes(good)
        path.chmod(mode)
    return num - len(missed), missed


def test_a_sound_folder_has_no_findings(filled):
    """Nothing is damaged, and every blob and release file was read."""
    found = examine(filled.root, say=quiet)

    assert found.healthy
    assert found.scrubbed.files >= len(rotting(filled)) - 6


def test_every_flipped_bit_is_named(filled, capsys):
    """Database, mark, blobs, release and public files, one bit at a time."""
    named, missed = named_flips(filled, 54, seed=SEED)

    with capsys.disabled():
        print(f"\nbit rot, seed {SEED}: {named} of 54 flips named, in {len(rotting(filled))} files")
    assert not missed


@pytest.mark.faults
def test_a_thousand_flipped_bits_are_named(filled, seed, figures):
    """R16's figure."""
    named, missed = named_flips(filled, 1_000, seed=seed)

    figures.say("R16 bit rot", flips=1_000, named=named, files=len(rotting(filled)))
    assert not missed


@pytest.mark.faults
def test_a_gibibyte_is_read_in_five_seconds(tmp_path, figures):
    """R16's other figure; none of 32 blobs is what its name says, and each is named."""
    folder = small(tmp_path, slots=64, kib=4)
    grow(folder, num_leaves=66, num_blobs=32, blob_bytes=32 << 20)

    started_s = time.monotonic()
    found = examine(folder, say=quiet).scrubbed
    took_s = time.monotonic() - started_s

    named = {each.file for each in found.findings if each.file.startswith("data/blobs/")}
    figures.say("R16 doctor", blobs=32, named=len(named), mib=1_024, seconds=f"{took_s:.1f}")
    assert len(named) == 32
    assert found.num_bytes >= 1 << 30
    assert took_s <= 5


def dump(database: Path) -> dict[str, list[tuple]]:
    """Return every row of every table, with its column names."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as db:
        tables = [r[0] for r in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = {}
        for table in tables:
            cursor = db.execute(f"SELECT * FROM {table} ORDER BY rowid")  # noqa: S608  # a table's name
            columns = [each[0] for each in cursor.description]
            rows[table] = [dict(zip(columns, row, strict=True)) for row in cursor]
        return rows


@pytest.mark.parametrize("num", [25, pytest.param(1_000, marks=pytest.mark.faults)])
def test_without_its_sum_a_changed_row_is_named_if_a_leaf_says_otherwise(filled, tmp_path, num):
    """After a kill there is no sum: a flip is named, or changed no row that a leaf tells of."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    folder.database_sum.unlink()
    good, before = folder.database.read_bytes(), dump(folder.database)
    draw, silent = random.Random(SEED), 0  # noqa: S311  # a replayable draw

    for _ in range(num):
        data = bytearray(good)
        at = draw.randrange(len(data) * 8)
        data[at // 8] ^= 1 << at % 8
        folder.database.write_bytes(data)
        if examine(folder.root, say=quiet).healthy:
            silent += 1
            after = dump(folder.database)
            for table, rows in before.items():
                for old, new in zip(rows, after[table], strict=True):
                    changed = {name for name in old if old[name] != new[name]}
                    assert changed <= set(UNSIGNED.get(table, ())), (table, changed, at)
    folder.database.write_bytes(good)

    assert silent < num


def test_a_table_whose_name_is_no_text_is_named(filled, tmp_path):
    """SQLite's own error then holds a byte that is no UTF-8: a finding all the same."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    folder.database_sum.unlink()
    data = bytearray(folder.database.read_bytes())
    data[data.index(b"CREATE TABLE") + len("CREATE ")] = 0xA0
    folder.database.write_bytes(data)

    assert not examine(folder.root, say=quiet).healthy


@pytest.mark.parametrize("name", ["scrub-compares-sizes"])
def test_a_seeded_bug_of_the_scrub_is_caught(filled, name, monkeypatch):
    """Lengths are compared and hashes are not: most flips go unseen."""
    with Bug.named(name).in_process():
        monkeypatch.setattr(doctor, "scrub", scrub.scrub)
        named, _ = named_flips(filled, 27, seed=SEED)

    assert named < 27


def test_missing_and_spare_files_are_named(filled, tmp_path):
    """A blob that is gone, a release file that nobody signed, a database that is not there."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    blob = next(path for path in folder.blobs.rglob("*") if path.is_file())
    blob.unlink()
    (folder.releases / "1" / "more.txt").write_text("x")

    found = {each.file: each.what for each in examine(folder.root, say=quiet).scrubbed.findings}
    folder.database.unlink()
    gone = [each.file for each in examine(folder.root, say=quiet).scrubbed.findings]

    assert found[blob.relative_to(folder.root).as_posix()] == "is missing"
    assert "belongs to nothing" in found["public/releases/1/more.txt"]
    assert "data/state.db" in gone


def test_a_database_changed_by_hand_is_told_row_by_row(filled, tmp_path):
    """Each law that the rows must keep is broken once, and the words say which."""
    changes = {
        "UPDATE slot SET fence = fence + 1 WHERE id = 0": "slot 0 is not what its last lease",
        "UPDATE slot SET state = 'free' WHERE id = 0": "slot 0 is free",
        "UPDATE upload SET receipt = x'00' WHERE leaf IS NOT NULL": "receipt in another form",
        "DELETE FROM upload WHERE leaf IS NOT NULL": "lacks its row, its upload or its lease",
        "UPDATE head SET peaks = zeroblob(length(peaks))": "head is not that of the leaves",
        "UPDATE lease SET vectors = '2' WHERE slot = 0": "vectors of another size",
        "UPDATE name SET name = 'otto' WHERE slot = 1": "is another name",
        "UPDATE lease SET client = 'x' WHERE slot = 0": "whose row says something else",
    }
    for statement, words in changes.items():
        database = shutil.copy(filled.database, tmp_path / "state.db")
        with contextlib.closing(sqlite3.connect(database)) as db:
            db.execute(statement)
            found = [*check_rows(db)]
        assert any(words in what for what in found), (statement, found)


def test_a_column_that_got_another_name_is_told(filled, tmp_path):
    """A flipped bit in the schema's text: every row is whole, and no statement would find it."""
    data = filled.database.read_bytes()
    database = tmp_path / "state.db"
    database.write_bytes(data.replace(b"operator INTEGER", b"operatos INTEGER"))

    with contextlib.closing(sqlite3.connect(database)) as db:
        found = [*check_rows(db)]

    assert any("not those of format" in what for what in found)


def test_keys_that_others_can_read_and_a_foreign_ledger_key_are_named(filled, tmp_path):
    """Modes and the key behind the keyring; a root key here is a warning."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    (folder.keys / "release.pem").chmod(0o644)
    shutil.copy(folder.keys / "root.pem", folder.keys / "ledger.pem")

    found = examine(folder.root, say=quiet)

    assert {each.file for each in found.scrubbed.findings} == {
        "keys/release.pem",
        "keys/ledger.pem",
    }
    assert "keys/root.pem" in {each.file for each in found.warnings}


@pytest.mark.parametrize(
    ("days", "told"), [(300, set()), (340, {"ends on"}), (380, {"ended on", "ends on"})]
)
def test_what_ends_within_a_month_is_warned_of(filled, tmp_path, days, told):
    """A keyring lasts 365 days and a certificate 397; metrics alone had said so."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    now = dt.datetime.now(dt.UTC)
    with folder.locked(), House(folder, fs=FastFs(), clock=SystemClock()):
        server_tls(folder.keys, ("localhost",), fs=FastFs(), now=now)
    clock = TestClock()
    clock.wall_moved_s = days * 86_400

    found = examine(folder.root, say=quiet, clock=clock)

    said = [x.what for x in found.warnings if x.file.startswith(("keys/tls", "public/keyring"))]
    assert found.healthy
    assert len(said) == len(told)
    assert {" ".join(each.split()[:2]) for each in said} == told


def test_keys_and_public_files_that_no_start_could_read_are_named(filled, tmp_path):
    """Each of them ended `serve`, a release, a rotation or `fork` with an error of Python's."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    with folder.locked(), House(folder, fs=FastFs(), clock=SystemClock()):
        server_tls(folder.keys, ("localhost",), fs=FastFs(), now=dt.datetime.now(dt.UTC))
    (folder.keys / "release.pem").write_text("garbage")
    (folder.keys / "tls-ca.pem").write_bytes(b"")
    (folder.keys / "tls-ca.key").write_bytes(b"-----BEGIN")
    (folder.keys / "tls-server.pem").write_bytes(b"\0")
    shutil.copy(folder.public / "keyring" / "1.json", folder.public / "keyring" / "1 (copy).json")
    (folder.public / "forks.json").write_text("[{")

    found = examine(folder.root, say=quiet).scrubbed.findings

    assert {each.file for each in found} == {
        *("keys/release.pem", "keys/tls-ca.pem", "keys/tls-ca.key", "keys/tls-server.pem"),
        *("public/keyring/1 (copy).json", "public/forks.json"),
    }
    assert "move it away" in next(each.what for each in found if "forks" in each.file)
    assert newest_public(folder).n == 1
    with pytest.raises(InputError, match="cannot be read as a certificate"):
        server_tls(folder.keys, ("localhost",), fs=FastFs(), now=dt.datetime.now(dt.UTC))


def replaced(path: Path) -> None:
    """Put a folder where a file was."""
    path.unlink()
    path.mkdir()


def _lost_sector(folder: DataFolder) -> None:
    """Have every read of one blob end with EIO, as this file of Linux's does at its beginning."""
    blob = next(path for path in folder.blobs.rglob("*") if path.is_file())
    blob.unlink()
    blob.symlink_to("/proc/self/mem")


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (lambda folder: shutil.rmtree(folder.keys), "keys"),
        (lambda folder: shutil.rmtree(folder.blobs), "data/blobs/"),
        (lambda folder: (folder.keys / "ledger-a.pem").symlink_to("/nowhere"), "ledger-a.pem"),
        (lambda folder: folder.audit_log.mkdir(), "data/audit.log"),
        (lambda folder: (folder.root / "high-water").unlink(), "high-water"),
        (lambda folder: replaced(folder.database_sum), "data/state.sum"),
        (lambda folder: shutil.rmtree(folder.data), "data/removal.lock"),
        (_lost_sector, "data/blobs/"),
    ],
    ids=["keys", "blobs", "link", "audit-log", "mark", "sum", "data", "sector"],
)
def test_what_the_system_does_not_give_is_named_beside_the_rest(filled, tmp_path, bad, named):
    """Each of them ended the look with exit code 1; a lost sector not even with a file's name."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    folder.keys.joinpath("release.pem").write_text("garbage")
    folder.public.joinpath("forks.json").write_text("[{")
    bad(folder)

    found = examine(folder.root, say=quiet).scrubbed.findings

    names = [each.file for each in found]
    assert any(named in each for each in names)
    assert "public/forks.json" in names
    assert len(found) == len(set(found))


def test_a_network_file_system_is_told_by_the_mounts(tmp_path):
    """The longest mount point above the folder counts, spaces and all."""
    mounts = tmp_path / "mounts"
    inside = tmp_path / "ä b"
    inside.mkdir()
    spaced = str(inside).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nhost:/x {spaced} nfs4 rw 0 0\n")

    assert file_system(inside, mounts) == "nfs4"
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "none") == ""


def test_the_command_ends_with_4_when_something_is_damaged(filled, tmp_path):
    """Exit code and JSON for monitoring; the words name the file."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    spec = folder.public / "spec.json"
    spec.write_bytes(spec.read_bytes() + b" ")

    command = [sys.executable, "-P", "-m", "orthofed", "doctor", str(folder.root), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    told = json.loads(done.stdout)
    assert done.returncode == 4
    assert [each["file"] for each in told["findings"]] == ["public/spec.json"]
