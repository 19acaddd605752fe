"""The folder of one client: its secrets, the federation it joined, its runs.

    home/master.key ...      what every key of this client is derived from, mode 0600 (masters.py)
    home/federation.json     address, CA, federation and log id: what the invite pinned
    home/spec.json           the federation's spec; keyrings/<n>.json beside it
    home/tls-client.pem      a TLS certificate and its key, where the coordinator asks for one
    home/counter ...         the next client key of each master
    home/outbox.jsonl ...    every message that left (outbox.py); older files have a number
    home/runs/<concept>/     state, training saves, blob, manifest, receipts of one concept
    home/runs/<concept>/log/ what each training said and drew (training_log.py); never sent
    home/runs/<concept>/cache/, home/class/   what trainings read in every step (caches.py)
    home/lock                held by the one process that may send
    home/daemon.lock         held by the home's one daemon; daemon/ its log and what it remembers

Everything beneath is its owner's alone: folders of mode 0700, files of mode 0600 (T27).

Law (reliability.md 2.3, F1): a file appears by a temporary file in the same folder, fsync, rename,
fsync of the folder; a reader sees the old bytes or the new ones. A full disk leaves the old ones.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..core import canonical
from ..core.errors import InputError, OrthoFedError
from ..core.fields import Fields, bad_field, is_hex
from ..core.names import slug
from .client_certificate import ClientCertificate

PUBLIC: Final = 0o644
"""The mode of what `write_whole` puts outside a home, as far as the process's own umask allows."""
_PRIVATE: Final = ("runs", "class")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Membership:
    """What this client knows of its federation and never lets a server change."""

    host_port: str
    ca: bytes  # DER; empty = the system's roots
    fed: str
    log: str


@dataclass(frozen=True, slots=True)
class Home:
    """One client's folder. It is created on first use, readable by its owner alone."""

    folder: Path

    @staticmethod
    def at(folder: Path | None = None) -> "Home":
        """Return the home in ``folder``, or the user's own data folder."""
        if folder is None:
            import platformdirs  # noqa: PLC0415  # slow to import, and rarely needed

            folder = platformdirs.user_data_path("orthofed")
        return Home(folder.expanduser().absolute())

    def create(self) -> None:
        """Make the folder, so that later writes have a place.

        Whatever the mode of a folder that was there before, what is beneath it is its owner's: it
        stays as it is, for couriers of its group come to its socket.
        """
        with told_when_full(self.folder, wanted=4096):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in _PRIVATE:
                place = self.folder / name
                place.mkdir(mode=0o700, exist_ok=True)
                if place.stat().st_mode & 0o077:  # of an earlier version
                    place.chmod(0o700)

    @contextlib.contextmanager
    def lock(self) -> Generator[None]:
        """Hold the home: one process at a time may send from it.

        Raises InputError: another process holds it.
        """
        in_use = InputError(
            f"{self.folder} is in use by another orthofed process",
            why="two processes would write one outbox",
            fix="wait for the other one, or give this one a --home of its own",
            code="home-in-use",
        )
        with self._held("lock", in_use):
            yield

    @contextlib.contextmanager
    def daemon_lock(self) -> Generator[Path]:
        """Be the home's one daemon, and give the daemon's folder.

        The home's other lock stays free for what the daemon starts, and for the owner's commands.
        Raises InputError: another daemon runs on this home.
        """
        runs = InputError(
            f"a daemon already runs on {self.folder}",
            why="two would teach the same concepts",
            fix="run orthofed client status to see it, or give this one a --home of its own",
            code="daemon-runs",
        )
        folder = self.folder / "daemon"
        with self._held("daemon.lock", runs):
            folder.mkdir(mode=0o700, exist_ok=True)
            yield folder

    @contextlib.contextmanager
    def _held(self, name: str, taken: InputError) -> Generator[None]:
        """Hold the lock file ``name``; raises ``taken`` where another process does."""
        self.create()
        handle = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise taken from None
            yield
        finally:
            os.close(handle)

    def membership(self) -> Membership:
        """Return the federation that this home joined.

        Raises InputError: none so far. Raises VerificationFailed: the record is damaged.
        """
        path = self.folder / "federation.json"
        if not path.exists():
            raise InputError(
                f"{self.folder} belongs to no federation yet",
                why="a slot is leased to members only",
                fix="run orthofed client join --invite FILE first",
                code="not-joined",
            )
        names = ("address", "ca", "fed", "log", "v")
        fields = Fields(canonical.decode(path.read_bytes()), "federation.json", need=names)
        ca = fields.raw("ca")
        if not isinstance(ca, str) or len(ca) % 2 or not is_hex(ca, len(ca)):
            raise bad_field("`ca` of federation.json is not a certificate in hex")
        return Membership(
            fields.text("address"), bytes.fromhex(ca), fields.hex("fed"), fields.hex("log")
        )

    def join(self, membership: Membership, *, spec: bytes, keyrings: tuple[bytes, ...]) -> None:
        """Keep what the invite pinned; the record comes last, so it never points at nothing."""
        write_whole(self.folder / "spec.json", spec)
        self.keep_keyrings(keyrings)
        record = {
            "address": membership.host_port,
            "ca": membership.ca.hex(),
            "fed": membership.fed,
            "log": membership.log,
            "v": 1,
        }
        write_whole(self.folder / "federation.json", canonical.encode(record))

    def keyrings(self) -> tuple[bytes, ...]:
        """Return the keyring documents 1, 2, 3, ... that this home has seen; none before it joined.

        The first one that is missing ends them: they are written in their order.
        """
        found: list[bytes] = []
        while (path := self._keyring(len(found) + 1)).is_file():
            found.append(path.read_bytes())
        return tuple(found)

    def keep_keyrings(self, keyrings: Sequence[bytes]) -> None:
        """Remember the keyrings that are new here; those that were seen stay as they are."""
        for n, keyring in enumerate(keyrings, start=1):
            if not self._keyring(n).is_file():
                write_whole(self._keyring(n), keyring)

    def _keyring(self, n: int) -> Path:
        return self.folder / "keyrings" / f"{n}.json"

    def certificate(self) -> ClientCertificate | None:
        """Return the TLS certificate that this home shows, if it has one.

        Raises InputError: the file is damaged.
        """
        path = self.folder / "tls-client.pem"
        return ClientCertificate.parse(path.read_bytes()) if path.exists() else None

    def keep_certificate(self, certificate: ClientCertificate) -> None:
        """Keep the TLS certificate, readable by its owner alone."""
        write_whole(self.folder / "tls-client.pem", certificate.to_pem())

    def run(self, concept: str) -> Path:
        """Return the folder of one concept. T10: the slug's grammar has no dots or slashes."""
        return self.folder / "runs" / slug(concept)

    @property
    def class_images(self) -> Path:
        """The folder of class images that the base drew, for all concepts."""
        return self.folder / "class"

    def runs(self) -> Iterator[Path]:
        """Yield the folders of all concepts, by name."""
        folder = self.folder / "runs"
        yield from sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else ()


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put ``data`` at ``path``: whole and synced, or not at all.

    ``mode`` is that of the file; others may enter the folders that are made for it if they may
    read it. The default is for homes.

    Raises OrthoFedError (disk-full): the old file, if there was one, is untouched.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with told_when_full(path, wanted=len(data)):
        _make(path.parent, mode=0o777 if mode & 0o077 else 0o700)
        temporary.unlink(missing_ok=True)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            appear(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _make(folder: Path, *, mode: int) -> None:
    """Make a folder and those above it that are missing, all of one mode."""
    if not folder.is_dir():
        _make(folder.parent, mode=mode)
        folder.mkdir(mode=mode, exist_ok=True)


def appear(temporary: Path, path: Path) -> None:
    """Rename a synced file to its final name and sync the folder, as F1 asks."""
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder's list of names."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def told_when_full(path: Path, *, wanted: int) -> Generator[None]:
    """Turn "no space", "over quota" and "file too large" into one clear error.

    Units: ``wanted`` in bytes, what still has to be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(path, wanted=wanted) from error
        raise


def disk_full(path: Path, *, wanted: int) -> OrthoFedError:
    """Return the error that says bytes needed and bytes free."""
    folder = next(p for p in (path, *path.parents) if p.is_dir())
    return OrthoFedError(
        f"{wanted} bytes needed for {path}, {shutil.disk_usage(folder).free} free",
        why="the disk, the quota or the size limit of this process is reached",
        fix="free some space and run the same command again; it goes on where it stopped",
        code="disk-full",
    )
