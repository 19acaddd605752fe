"""Backups: whole or recognisably not, without keys, checked both ways (R19)."""

import json
import shutil
import sqlite3
import subprocess
import threading

import pytest

from orthofed.coordinator import publications, snapshot, upload_rows
from orthofed.coordinator.backup import INCOMPLETE, MANIFEST, BackupManifest, back_up
from orthofed.coordinator.clock import SystemClock
from orthofed.coordinator.control import ControlServer
from orthofed.coordinator.doctor import examine
from orthofed.coordinator.folder import DataFolder
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.keyfile import save_key
from orthofed.coordinator.restore import check_backup, restore
from orthofed.coordinator.store import Store
from orthofed.core.errors import InputError, OrthoFedError, Refused, VerificationFailed
from orthofed.core.keys import SigningKey

from .running import COMMAND
from .seeded import Bug
from .serving import FastFs, founded, running


def quiet(text: str) -> None:
    del text


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
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


def backed_up(folder: DataFolder, out, fs: Fs | None = None) -> BackupManifest:
    return back_up(folder, out, fs=fs or FastFs(), clock=SystemClock(), say=quiet)


def test_a_backup_restores_to_the_same_coordinator(filled, tmp_path):
    """Rows, blobs, releases and settings; the restored one runs and is healthy to the byte."""
    manifest = backed_up(filled, tmp_path / "backup")

    done = restore(tmp_path / "backup", tmp_path / "fed", keys=filled.keys, fs=FastFs(), say=quiet)

    again = DataFolder.open(tmp_path / "fed")
    with running(again) as coordinator:
        status = coordinator.desk.status()
        member = coordinator.member()
        member.contribute(member.pack(member.lease("dora", ("dora-k7",))))
        coordinator.release()
    assert (done.lost, done.has_keys) == (0, True)
    assert status["ledger_size"] == manifest.size
    assert status["contributions"] == {"accepted": 2}
    assert status["newest_release"] == 1
    assert examine(again.root, say=quiet).healthy


def test_a_restored_folder_is_examined_before_it_was_ever_served(filled, tmp_path):
    """The operator looks at the copy and serves it later, or never: a drill."""
    backed_up(filled, tmp_path / "backup")

    restore(tmp_path / "backup", tmp_path / "fed", keys=filled.keys, fs=FastFs(), say=quiet)

    assert examine(tmp_path / "fed", say=quiet).healthy


def test_a_lost_blob_ends_neither_releases_nor_backups(filled, tmp_path):
    """It is named; once its contribution is rejected, the rest goes on without it."""
    folder = DataFolder.open(shutil.copytree(filled.root, tmp_path / "own"))
    with running(folder) as coordinator:
        rows = coordinator.desk.ask("contributions", {})["contributions"]
        leaf = max(row["leaf"] for row in rows)
        blob = coordinator.house.store.run(
            lambda db: next(u.blob for u in upload_rows.committed(db) if u.leaf == leaf)
        )
        coordinator.desk.ask("plan", {"lambda_1024": None})
        folder.blob(blob).unlink()
        with pytest.raises(OrthoFedError):
            coordinator.release()
        coordinator.desk.ask("reject", {"leaf": leaf, "why": "its blob is lost"})
        coordinator.release()
        newest = coordinator.house.store.run(publications.newest)
    assert newest is not None
    assert leaf not in {item.leaf for item in newest.plan.included}

    backed_up(folder, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "fed", keys=folder.keys, fs=FastFs(), say=quiet)

    assert examine(folder.root, say=quiet).healthy
    assert examine(tmp_path / "fed", say=quiet).healthy


def test_no_private_key_is_in_a_backup(filled, tmp_path):
    """security.md 3: whoever finds it cannot sign; a restore without keys says so."""
    backed_up(filled, tmp_path / "backup")
    secrets = [path.read_bytes() for path in filled.keys.iterdir() if path.suffix != ".key"]

    for path in (p for p in (tmp_path / "backup").rglob("*") if p.is_file()):
        data = path.read_bytes()
        assert b"PRIVATE KEY" not in data
        assert not any(secret in data for secret in secrets)
    done = restore(tmp_path / "backup", tmp_path / "fed", keys=None, fs=FastFs(), say=quiet)
    assert not done.has_keys


def test_a_half_made_backup_is_never_taken_for_one(filled, tmp_path):
    """The process dies after any file: restore refuses what is there; the next backup clears it."""

    class Killed(BaseException):
        pass

    class DyingFs(FastFs):
        left = 0

        def sync(self, fd, what):
            del fd, what
            self.left -= 1
            if self.left < 0:
                raise Killed

    out, after = tmp_path / "backup", 0
    for after in range(0, 60, 3):
        fs = DyingFs()
        fs.left = after
        try:
            backed_up(filled, out, fs)
        except Killed:
            if (out / MANIFEST).exists() and not (out / INCOMPLETE).exists():
                break  # only the last sync was missing: it is whole
            with pytest.raises(VerificationFailed) as refused:
                restore(out, tmp_path / "fed", keys=None, fs=FastFs(), say=quiet)
            assert refused.value.code == "backup-incomplete"
        else:
            break
    assert after > 5, "it was killed at several places"
    assert examine(out, say=quiet).healthy
    with pytest.raises(InputError):
        backed_up(filled, out)


def test_a_second_backup_into_a_folder_that_is_being_written_is_refused(filled, tmp_path):
    """It took the first one's files away; the first then ended in the middle, or said `ok`."""
    out = tmp_path / "backup"

    class Meanwhile(FastFs):
        said = ""

        def copy(self, source, target):
            super().copy(source, target)
            if not self.said:
                with pytest.raises(Refused) as refused:
                    back_up(filled, out, fs=FastFs(), clock=SystemClock(), say=lambda _: None)
                self.said = refused.value.code

    fs = Meanwhile()
    back_up(filled, out, fs=fs, clock=SystemClock(), say=lambda _: None)

    assert fs.said == "folder-in-use"
    assert not [*check_backup(out, BackupManifest.read(out))]


def test_a_damaged_backup_is_refused_before_anything_is_written(filled, tmp_path):
    """One bit of any file, a missing file, one too many: named, and nothing is made."""
    out = tmp_path / "backup"
    manifest = backed_up(filled, out)
    for file in manifest.files[::4]:
        path = out / file.name
        good = path.read_bytes()
        shutil.copy(path, tmp_path / "good")  # the blob is linked: never write through the link
        path.unlink()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

        with pytest.raises(VerificationFailed) as refused:
            restore(out, tmp_path / "fed", keys=None, fs=FastFs(), say=quiet)

        assert file.name in refused.value.what
        path.unlink()
        shutil.move(tmp_path / "good", path)
    (out / "data" / "more").write_bytes(b"x")
    with pytest.raises(VerificationFailed, match="data/more"):
        restore(out, tmp_path / "fed", keys=None, fs=FastFs(), say=quiet)
    (out / "data" / "more").unlink()
    (out / MANIFEST).write_text("{}")
    with pytest.raises(VerificationFailed):
        restore(out, tmp_path / "fed", keys=None, fs=FastFs(), say=quiet)
    assert not (tmp_path / "fed").exists()


@pytest.mark.parametrize(
    "name", ["../planted", "/planted", "data/../../planted", "data//x", "", ".", "a\0b"]
)
def test_a_backup_that_names_a_place_outside_is_refused(filled, tmp_path, name):
    """T10: a restore makes paths of the names that a backup lists."""
    out = tmp_path / "backup"
    backed_up(filled, out)
    (tmp_path / "planted").write_bytes(b"")
    told = json.loads((out / MANIFEST).read_bytes())
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    told["files"].append({"bytes": 0, "name": name, "sha256": empty})
    (out / MANIFEST).write_text(json.dumps(told))

    with pytest.raises(VerificationFailed) as refused:
        restore(out, tmp_path / "new" / "fed", keys=None, fs=FastFs(), say=quiet)

    assert refused.value.code == "backup-damaged"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["[]", "5", '"a"', "{}", "[" * 100_000, '{"schema": []}'])
def test_a_backup_manifest_of_another_shape_is_damage(tmp_path, text):
    """A list, a number, deep nesting: one error, whatever it is instead."""
    (tmp_path / MANIFEST).write_text(text)

    with pytest.raises(VerificationFailed) as refused:
        BackupManifest.read(tmp_path)

    assert refused.value.code == "backup-damaged"


def test_damage_in_the_source_is_named_and_not_backed_up(filled, tmp_path):
    """A rotten blob: the backup fails and says which, so that it never replaces a good one."""
    folder = DataFolder(shutil.copytree(filled.root, tmp_path / "fed"))
    blob = next(path for path in folder.blobs.rglob("*") if path.is_file())
    blob.chmod(0o644)
    blob.write_bytes(b"x" + blob.read_bytes()[1:])

    with pytest.raises(VerificationFailed) as refused:
        backed_up(folder, tmp_path / "backup")

    assert blob.name in refused.value.what
    assert (tmp_path / "backup" / INCOMPLETE).exists()


def test_a_restore_replaces_nothing_and_takes_no_foreign_keys(filled, tmp_path):
    """A folder that holds anything, and the keys of another federation, are refused."""
    backed_up(filled, tmp_path / "backup")
    (tmp_path / "fed").mkdir()
    (tmp_path / "fed" / "file").touch()
    (tmp_path / "keys").mkdir()
    save_key(tmp_path / "keys", "ledger", SigningKey.from_seed(b"\7" * 32), fs=FastFs())

    codes = []
    for target, keys in (("fed", None), ("other", tmp_path / "keys")):
        with pytest.raises(InputError) as refused:
            restore(tmp_path / "backup", tmp_path / target, keys=keys, fs=FastFs(), say=quiet)
        codes.append(refused.value.code)

    assert codes == ["folder-not-empty", "other-keys"]
    assert not (tmp_path / "other").exists()


def test_a_restore_without_the_marks_volume_copies_nothing(tmp_path):
    """The error names the setting, no key is left, and no later start is told to fork."""
    folder = founded(tmp_path / "on")
    volume = tmp_path / "volume"
    text = folder.settings_file.read_text("utf-8")
    changed = text.replace('high_water = ""', f'high_water = "{volume / "mark"}"')
    folder.settings_file.write_text(changed, "utf-8")
    volume.mkdir()
    with running(folder):
        pass
    backed_up(folder, tmp_path / "backup")
    marked = (volume / "mark").read_bytes()
    (volume / "mark").unlink()
    volume.rmdir()

    with pytest.raises(InputError, match="`high_water` is ") as refused:
        restore(tmp_path / "backup", tmp_path / "fed", keys=folder.keys, fs=FastFs(), say=quiet)
    with pytest.raises(InputError, match="mount its volume"), running(folder):
        pass
    assert refused.value.code == "no-mark-folder"
    assert not [*tmp_path.glob(".fed*"), *tmp_path.glob("fed*")]
    volume.mkdir()
    restore(tmp_path / "backup", tmp_path / "fed", keys=folder.keys, fs=FastFs(), say=quiet)
    assert (volume / "mark").read_bytes() == marked


def copy_after_a_kill(folder: DataFolder, scratch) -> int:
    """Kill the coordinator with work in its log; back it up as it lies; return the leaves held."""
    image = scratch / "image"
    with running(folder) as coordinator:
        member = coordinator.member()
        member.contribute(member.pack(member.lease("zoe", ("zoe-k7",))))
        half = shutil.ignore_patterns(".*.tmp")  # the public files are being written meanwhile
        coordinator.house.store.run(lambda _: shutil.copytree(folder.root, image, ignore=half))
        size = coordinator.desk.status()["ledger_size"]
    found = backed_up(DataFolder(image), scratch / "backup").size
    return found - size


def test_a_backup_of_a_killed_coordinator_holds_what_only_its_log_held(tmp_path):
    """The database file alone is old: what was acknowledged last lies in the write-ahead log."""
    assert copy_after_a_kill(founded(tmp_path), tmp_path) == 0


@pytest.mark.parametrize("name", ["backup-without-log"])
def test_a_seeded_bug_of_the_backup_is_caught(tmp_path, name, monkeypatch):
    """Only the database file is copied: the backup is refused as damaged, or holds less."""
    folder = founded(tmp_path)
    with Bug.named(name).in_process():
        monkeypatch.setattr("orthofed.coordinator.backup.database_copy", snapshot.database_copy)
        try:
            missing = copy_after_a_kill(folder, tmp_path)
        except OrthoFedError:
            missing = -1

    assert missing < 0


def test_a_snapshot_under_load_is_one_moment_and_keeps_nobody_waiting(tmp_path):
    """Pairs of rows are written while pages are copied: the copy holds whole pairs only."""
    store = Store(tmp_path / "state.db", fs=FastFs(), new=True)
    store.run(lambda db: db.execute("CREATE TABLE pair (a INTEGER, b INTEGER, fill BLOB)"))
    store.run(lambda db: [pair(db, n) for n in range(4_000)])
    stop, written = threading.Event(), [4_000]

    def load() -> None:
        while not stop.is_set():
            store.run(lambda db: pair(db, written[0]))
            written[0] += 1

    writer = threading.Thread(target=load)
    writer.start()
    before = written[0]
    store.snapshot(tmp_path / "copy.db")
    during = written[0] - before
    stop.set()
    writer.join()
    store.close()

    db = sqlite3.connect(tmp_path / "copy.db")
    count, whole = db.execute("SELECT COUNT(*), SUM(a = b) FROM pair").fetchone()
    assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()
    assert count == whole >= 2 * before
    assert count % 2 == 0
    assert during >= 2


def pair(db: sqlite3.Connection, n: int) -> None:
    db.execute("INSERT INTO pair VALUES (?, ?, ?)", (n, n, bytes(1_000)))
    db.execute("INSERT INTO pair VALUES (?, ?, ?)", (-n, -n, bytes(1_000)))


def test_a_running_coordinator_is_asked_over_its_socket(tmp_path):
    """The command writes the backup; the coordinator only copies its database, and goes on."""
    folder = founded(tmp_path)
    with running(folder) as coordinator:
        control = ControlServer(folder.control, lambda _: coordinator.desk)
        member = coordinator.member()
        member.contribute(member.pack(member.lease()))
        try:
            found = backed_up(folder, tmp_path / "backup")
        finally:
            control.close()
        assert found.size == coordinator.desk.status()["ledger_size"]
    assert not list(folder.snapshots.iterdir())


def test_the_commands_say_what_they_did(filled, tmp_path):
    """`backup`, `restore`, `doctor` and `fork` from the command line, with `--json`."""

    def call(*words: str) -> dict:
        done = subprocess.run(
            [*COMMAND, *words, "--json"], capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    made = call("backup", str(filled.root), "-o", str(tmp_path / "backup"))
    keys = ("--keys", str(filled.keys))
    back = call("restore", str(tmp_path / "backup"), str(tmp_path / "fed"), *keys)

    assert made["keys"] is False
    assert (made["leaves"], back["lost"]) == (back["leaves"], 0)
