"""Checks a backup to the byte, and makes a coordinator's folder of it.

Laws: nothing is written before everything was checked, the mark's volume too, and then the folder
appears whole or not at all (new_folder.py). Files are copied, never linked: the backup stays what
it was. The backup's mark comes along unless one is there that knows more: then the restored
database is old, and the next start refuses it (mark.py). Private keys are given by the operator and
must be those that the ledger names.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.document import parse
from ..core.errors import InputError, VerificationFailed
from ..core.keyring import Keyring
from . import meta_rows, upload_rows
from .backup import (
    DATABASE,
    MANIFEST,
    MARK,
    SETTINGS,
    BackupManifest,
    marked,
)
from .blobs import sha256_of
from .folder import DataFolder, Settings
from .fs import Fs
from .keyfile import Role, key_files, load_key, read_key
from .mark import check_place, here, read_mark
from .new_folder import free_place, new_folder
from .rowcheck import check_rows
from .scrub import Finding
from .snapshot import DatabaseCopy

_FOUND = 8
_KEY_FILES = ("tls-ca.key", "tls-ca.pem", "tls-server.pem")
_ROLES: tuple[Role, ...] = ("ledger", "release")


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored; ``lost``: leaves that a mark elsewhere knows and the backup does not."""

    manifest: BackupManifest
    has_keys: bool
    lost: int


def check_backup(backup: Path, manifest: BackupManifest) -> Iterator[Finding]:
    """Yield every file of a backup that is not what it was when it was made."""
    for file in manifest.files:
        path = backup / file.name
        if not path.is_file():
            yield Finding(file.name, "is missing")
        elif path.stat().st_size != file.bytes or sha256_of(path) != file.sha256:
            yield Finding(file.name, "is not what it was: its SHA-256 differs")
    there = {p.relative_to(backup).as_posix() for p in backup.rglob("*") if p.is_file()}
    for name in sorted(there - {file.name for file in manifest.files} - {MANIFEST}):
        yield Finding(name, "belongs to no backup")
    with contextlib.closing(DatabaseCopy(backup / DATABASE).open()) as db:
        wrong = [*check_rows(db)]
        yield from (Finding(DATABASE, what) for what in wrong)
        if not wrong:
            named = {file.name for file in manifest.files}
            for blob in sorted(upload_rows.kept_blobs(db) - upload_rows.spare_blobs(db)):
                if f"data/blobs/{blob[:2]}/{blob}" not in named:
                    yield Finding(f"data/blobs/{blob[:2]}/{blob}", "is not in the backup")
            if here(db) != marked(manifest):
                yield Finding(MANIFEST, "is of another ledger than the database")


def restore(
    backup: Path, root: Path, *, keys: Path | None, fs: Fs, say: Callable[[str], None]
) -> Restored:
    """Make a coordinator's folder at ``root``, which is absent or empty."""
    place = free_place(
        root,
        why="a restore never replaces anything",
        fix="move the old folder away, or give another one",
    )
    manifest = BackupManifest.read(backup)
    say("checking the backup")
    _refuse_damage([*check_backup(backup, manifest)])
    if keys is not None:
        _check_keys(backup, keys)
    mark = Settings.read(backup / SETTINGS).mark_file(place)
    is_inside = mark.is_relative_to(place)
    if not is_inside:
        check_place(mark)
    there = None if is_inside else read_mark(mark)
    say("copying")
    with new_folder(place, "restore", fs=fs) as building:
        folder = DataFolder(building)
        folder.make(fs)
        _fill(folder, backup, manifest, keys, fs)
        if is_inside:
            mark = building / mark.relative_to(place)
            mark.parent.mkdir(parents=True, exist_ok=True)
        if there is None:
            fs.write_whole(mark, marked(manifest).to_bytes())
    lost = 0 if there is None else max(0, there.size - manifest.size)
    return Restored(manifest, keys is not None, lost)


def _fill(
    folder: DataFolder, backup: Path, manifest: BackupManifest, keys: Path | None, fs: Fs
) -> None:
    for file in manifest.files:
        if file.name == MARK:
            continue
        target = folder.root / ("coordinator.toml" if file.name == SETTINGS else file.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        fs.copy(backup / file.name, target)
        target.chmod(0o444 if file.name.startswith("data/blobs/") else 0o644)
    folder.database.chmod(0o600)
    folder.settings_file.chmod(0o600)
    with contextlib.closing(DatabaseCopy(folder.database).open()) as db:
        fs.write_whole(folder.public / "spec.json", meta_rows.value(db, "spec"))
        for n, document in enumerate(meta_rows.keyrings(db), start=1):
            fs.write_whole(folder.public / "keyring" / f"{n}.json", document)
    if keys is not None:
        signing = [path.name for role in _ROLES for path in key_files(keys, role)]
        for name in (*signing, *_KEY_FILES):
            if (keys / name).is_file():
                fs.copy(keys / name, folder.keys / name)
    for path in sorted(folder.root.rglob("*")):
        if path.is_dir():
            fs.sync_folder(path)


def _check_keys(backup: Path, keys: Path) -> None:
    """Refuse keys that are not those of this ledger, before anything is written."""
    with contextlib.closing(DatabaseCopy(backup / DATABASE).open()) as db:
        ring = Keyring.from_body(parse(meta_rows.keyrings(db)[-1], kind="keyring").body)
    allowed: dict[Role, tuple[str, ...]] = {"ledger": (ring.ledger,), "release": ring.release}
    for role, known in allowed.items():
        there = [read_key(path).public_hex for path in key_files(keys, role)]
        if role == "release" and not there:
            continue
        if not there:
            load_key(keys, role)  # raises: it is missing
        if not set(there) & set(known):
            raise InputError(
                f"{role}.pem is not the {role} key of this federation's newest keyring",
                why="another key's signatures would be refused by everybody",
                fix="give the folder with the keys of this federation",
                code="other-keys",
            )


def _refuse_damage(found: list[Finding]) -> None:
    if found:
        named = "; ".join(f"{each.file} {each.what}" for each in found[:_FOUND])
        raise VerificationFailed(
            f"the backup is damaged: {named}",
            why=f"{len(found)} of its files are not what they were when it was made",
            fix="use another backup",
            code="backup-damaged",
        )
