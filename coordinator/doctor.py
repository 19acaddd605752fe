"""Looks a coordinator's folder, or a backup, over: every byte (scrub.py), keys, machine.

Laws: a *finding* is damage, names its file, and makes the exit code 4; a *warning* is what may
become one: an old SQLite, little space, a root key where it should not lie, a certificate or a
keyring that ends within a month. Network file systems are a finding: locks and syncs mean less
there. Nothing is changed. Source: reliability.md 2.1, 2.2 and 2.7.
"""

import contextlib
import datetime as dt
import errno
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..core.errors import InputError, OrthoFedError, VerificationFailed
from .audit_log import BROKEN, entries
from .backup import DATABASE, MANIFEST, BackupManifest
from .clock import Clock, SystemClock
from .folder import DataFolder
from .fs import Fs
from .keyfile import Role, find_key, key_files, read_key
from .mark import read_forks
from .restore import check_backup
from .rotation import newest_public
from .scrub import Finding, PublicFiles, Scrubbed, scrub, unread
from .snapshot import database_copy
from .tls import certificate_until_s, tls_faults

_OCTAL = re.compile(r"\\([0-7]{3})")
_FIXED_SQLITE = (3, 51, 3)
"""Before it, two connections that checkpoint at one moment can corrupt a database; we have one."""
_OF_THE_FILE = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EIO}
)
"""What the system says of a bad file; a full disk or a read-only one is the machine's matter."""
_SOON_S = 30 * 86_400
"""A start renews the certificate from then on."""
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "sshfs"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "beegfs", "ncpfs", "webdav"}
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, what is damaged, and what to keep an eye on."""

    scrubbed: Scrubbed
    warnings: tuple[Finding, ...]
    sqlite: str

    @property
    def healthy(self) -> bool:
        """Whether nothing is damaged."""
        return not self.scrubbed.findings


def examine(
    directory: Path, *, say: Callable[[str], None], clock: Clock | None = None
) -> Diagnosis:
    """Return what is wrong with a coordinator's folder, or with a backup of one."""
    if (directory / MANIFEST).is_file():
        manifest = BackupManifest.read(directory)
        say("checking the backup")
        found = [*check_backup(directory, manifest)]
        total = sum(file.bytes for file in manifest.files)
        return Diagnosis(
            Scrubbed(found, manifest.size, len(manifest.files), total), (), sqlite3.sqlite_version
        )
    folder = DataFolder.open(directory)
    warnings: list[Finding] = []
    scrubbed = Scrubbed()
    for look, found in (
        (_machine, warnings),
        (partial(_ending, (clock or SystemClock()).wall_s()), warnings),
        (partial(_scrubbed, scrubbed, say), scrubbed.findings),
        (_network, scrubbed.findings),
        (_keys, scrubbed.findings),
        (_unreadable, scrubbed.findings),
        (_audit_log, scrubbed.findings),
        (_forks, scrubbed.findings),
    ):
        try:
            found.extend(look(folder))
        except OSError as error:  # the rest is looked at all the same: R16 names each bad file
            if error.errno not in _OF_THE_FILE:
                raise
            scrubbed.findings.append(unread(folder.root, error))
    scrubbed.findings[:] = dict.fromkeys(scrubbed.findings)  # one missing folder, met twice
    return Diagnosis(scrubbed, tuple(warnings), sqlite3.sqlite_version)


def _scrubbed(scrubbed: Scrubbed, say: Callable[[str], None], folder: DataFolder) -> list[Finding]:
    """Scrub into ``scrubbed``; return what cannot be, since no database is there."""
    public = PublicFiles.read(folder)
    try:
        with database_copy(folder) as copy:
            scrub(folder, copy, public, scrubbed, say=say)
    except OrthoFedError as error:
        if error.code != "database-misplaced":
            raise
        return [Finding(DATABASE, "is missing")]
    return []


def _network(folder: DataFolder) -> Iterator[Finding]:
    kind = file_system(folder.data)
    if kind in _NETWORK:
        yield Finding("data", f"lies on a network file system, {kind}")


def file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the type of the file system that ``path`` lies on, empty where nobody says it."""
    if not mounts.is_file():
        return ""
    best, kind = "", ""
    for line in os.fsdecode(mounts.read_bytes()).splitlines():
        _, point, found, *_ = line.split(" ")
        # A space is \040 there; all else, umlauts too, stands as it is.
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), point)
        inside = path.resolve().is_relative_to(point)
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def _machine(folder: DataFolder) -> Iterator[Finding]:
    if sqlite3.sqlite_version_info < _FIXED_SQLITE:
        wanted = ".".join(map(str, _FIXED_SQLITE))
        yield Finding(
            "SQLite",
            f"is {sqlite3.sqlite_version}, before {wanted}: safe with the one connection that the"
            " coordinator has, not with a second program on the database",
        )
    reserve = folder.settings().reserve_mib << 20
    free = Fs(reserve_bytes=reserve).free_bytes(folder.data)
    if free <= 0:
        what = f"has {(free + reserve) >> 20} MiB free, below the reserve of {reserve >> 20} MiB"
        yield Finding("disk", f"{what}: uploads are refused")
    if (folder.keys / "root.pem").is_file():
        yield Finding("keys/root.pem", "lies on this machine; it signs keyrings: move it away")


def _ending(now_s: int, folder: DataFolder) -> Iterator[Finding]:
    """Name the certificate and the keyring that end within a month, while there is time."""
    until_s = certificate_until_s(folder.keys)  # 0: none yet, or one that `_unreadable` names
    if until_s and until_s - now_s < _SOON_S:
        yield Finding(
            "keys/tls-server.pem", f"{_ends(until_s, now_s)}: restart serve, which makes it anew"
        )
    with contextlib.suppress(OrthoFedError):  # `_keys` says what is wrong with it
        newest = newest_public(folder)
        if newest.until - now_s < _SOON_S:
            yield Finding(
                f"public/keyring/{newest.n}.json",
                f"{_ends(newest.until, now_s)}: make the next one, orthofed coordinator keyring"
                " propose; nothing that this one signs is taken afterwards",
            )


def _ends(until_s: float, now_s: int) -> str:
    date = dt.datetime.fromtimestamp(until_s, dt.UTC).date().isoformat()
    return f"ended on {date}" if until_s <= now_s else f"ends on {date}"


def _audit_log(folder: DataFolder) -> Iterator[Finding]:
    log = folder.audit_log
    if log.exists() and not log.is_file():
        yield Finding(f"data/{log.name}", "is no file: no command that changes anything would run")
    try:
        for _ in entries(log):
            pass
    except VerificationFailed as error:
        yield Finding(f"data/{log.name}", error.what)
    for path in sorted(log.parent.glob(f"{log.name}{BROKEN}*")):
        yield Finding(f"data/{path.name}", "was moved aside by a start: its chain is broken")


def _unreadable(folder: DataFolder) -> Iterator[Finding]:
    """Load every key and certificate, as a start, a release or a rotation would."""
    keys = folder.keys
    for path in (path for role in _SECRET for path in key_files(keys, role)):
        try:
            read_key(path)
        except InputError as error:
            if error.code != "key-open" and path.name != "ledger.pem":  # both are told above
                yield Finding(f"keys/{path.name}", error.what.removeprefix(f"{path.name} "))
    for name, what in tls_faults(keys):
        yield Finding(f"keys/{name}", what.removeprefix(f"{name} "))


def _forks(folder: DataFolder) -> Iterator[Finding]:
    try:
        read_forks(folder)
    except VerificationFailed as error:
        yield Finding("public/forks.json", f"cannot be read: {error.fix}")


_SECRET: tuple[Role, ...] = ("ledger", "release", "root")


def _keys(folder: DataFolder) -> Iterator[Finding]:
    """Check that the keys are the ledger's, each one a key, and nobody else's to read."""
    known = folder.keyrings()
    for path in sorted((folder.public / "keyring").glob("*.json")):
        if path not in known:
            yield Finding(f"public/keyring/{path.name}", "belongs to nothing that was signed")
    try:
        find_key(folder.keys, "ledger", (newest_public(folder).ledger,))
    except OrthoFedError as error:
        yield Finding("keys/ledger.pem", error.what)
    except OSError as error:
        yield unread(folder.root, error)
    for path in sorted(folder.keys.iterdir()):
        secret = (
            path.suffix == ".key"
            or path.stem.partition("-")[0] in _SECRET
            or path.stem == "tls-server"
        )
        if not path.exists():
            yield Finding(f"keys/{path.name}", "is a link to nothing")
        elif secret and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding(f"keys/{path.name}", "can be read by others: chmod 600")
