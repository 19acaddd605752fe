"""Fetches one release into a folder: resumed at any byte, hashed as it arrives, whole or not there.

    1  manifest, proof, spec, keyrings -> trust.py, against the log id of the link
    2  room on the disk for what is missing
    3  each file into .pull/<sha256>: every 16 MiB chunk hashed as it arrives, then the whole file,
       then its header read, synced and renamed to its own name; if asked, what they are made of
    4  trust/ for `orthofed verify` without a network, manifest.json last

Laws: no byte is under a final name before its hash is right; a kill anywhere costs at most what
was not yet written; a damaged chunk is fetched again alone, once; every size is known before the
fetch, so an endless or short answer is refused (T16); names come from the signed manifest, pass
its rules and never leave the folder (T10). Source: reliability.md R17, formats.md 2.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..core.errors import InputError, VerificationFailed
from ..core.release import FileEntry
from ..proto import methods, wire
from .channel import Channel
from .contributions import Contributions
from .fetch import Fetch
from .home import appear, disk_full, sync_folder, told_when_full, write_whole
from .trust import TrustedRelease, check, trusted_federation, trusted_release
from .verify import (
    KEYRINGS,
    LOG,
    MANIFEST,
    PROOF,
    SPEC,
    check_file,
    check_header,
    place,
    read_release,
)

PART: Final = ".pull"
_REPLY: Final = "reply"
_RESERVE: Final = 1 << 20
"""Bytes to be left free besides the release: folders, proofs, the file system's own."""

OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Pull:
    """One release on its way into ``out``. ``on_bytes(name, done, total)`` hears the progress."""

    channel: Channel
    log: str
    out: Path
    on_bytes: OnBytes = lambda *_: None

    def run(self, n: int = 0, *, contributions: bool = False) -> TrustedRelease:
        """Fetch release ``n``, 0 for the newest, and return it trusted and whole.

        ``contributions``: also what it was made of, for `orthofed verify --rebuild`.

        Raises InputError: the folder holds something else. Raises VerificationFailed: the other
        side served bytes that are not the release. Raises OrthoFedError (disk-full).
        """
        release, reply = self.begin(n)
        self.fetch(release, release.manifest.files)
        if contributions:
            self._fetch_contributions(release)
        self._finish(reply)
        return release

    def begin(self, n: int = 0) -> tuple[TrustedRelease, wire.ManifestReply]:
        """Take the folder and return the manifest, trusted; no file of the release yet."""
        self._claim()
        reply = self._begun()
        if reply is None:
            request = wire.ManifestRequest(n)
            reply = self.channel.call(methods.GET_MANIFEST, request, wire.ManifestReply)
        release = self._trust(reply)
        if n not in (0, release.manifest.n):
            raise self._taken(f"was begun with release {release.manifest.n}, not {n}")
        write_whole(self.out / PART / _REPLY, reply.to_bytes())
        return release, reply

    def fetch(self, release: TrustedRelease, entries: Iterable[FileEntry]) -> None:
        """Fetch the files of ``entries`` that are not whole yet."""
        waiting = [entry for entry in entries if not self._is_whole(entry)]
        self._check_room(waiting)
        total, before = sum(entry.bytes for entry in waiting), 0
        for entry in waiting:
            self._fetch(release, entry, before, total)
            before += entry.bytes

    def _fetch_contributions(self, release: TrustedRelease) -> None:
        made_of = Contributions(self.out, release)
        made_of.fetch_proofs(self.channel)
        waiting = [entry for entry in made_of.entries() if not self._is_whole(entry)]
        self._check_room(waiting)
        total, done = sum(entry.bytes for entry in waiting), 0
        for entry in waiting:
            made_of.fetch_blob(self.channel, entry, self.out / PART / entry.sha256)
            done += entry.bytes
            self.on_bytes(entry.name, done, total)

    def _fetch(self, release: TrustedRelease, entry: FileEntry, before: int, total: int) -> None:
        def on_bytes(done: int) -> None:
            self.on_bytes(entry.name, before + done, total)

        def read(offset: int, length: int) -> wire.ReadReply:
            request = wire.ReadRequest(release.manifest.n, entry.name, offset, length)
            return self.channel.call(methods.READ, request, wire.ReadReply)

        part = self.out / PART / entry.sha256
        target = place(self.out, entry.name)
        Fetch(entry, part, read, on_bytes, of=f"release {release.manifest.n}").run()
        with check("header"):
            check_header(part, entry.name)
        with told_when_full(target, wanted=entry.bytes):
            target.parent.mkdir(parents=True, exist_ok=True)
            appear(part, target)
        on_bytes(entry.bytes)

    def _finish(self, reply: wire.ManifestReply) -> None:
        """Write what proves the release; the manifest last, then drop the part folder."""
        write_whole(self.out / LOG, self.log.encode() + b"\n")
        write_whole(self.out / SPEC, reply.spec)
        for n, keyring in enumerate(reply.keyrings, start=1):
            write_whole(self.out / KEYRINGS / f"{n}.json", keyring)
        write_whole(self.out / PROOF, reply.receipt)
        write_whole(self.out / MANIFEST, reply.document)
        shutil.rmtree(self.out / PART)
        sync_folder(self.out)

    def _claim(self) -> None:
        """Take the folder: new, empty, or begun by a pull of the same ledger."""
        if self.out.is_symlink() or (self.out.exists() and not self.out.is_dir()):
            raise self._taken("is not a folder")
        pin = self.log.encode() + b"\n"
        if any(_holds(self.out / name, pin) for name in (f"{PART}/log", LOG)):
            return
        if self.out.is_dir() and any(path.name != PART for path in self.out.iterdir()):
            raise self._taken("holds files that no pull of this federation put there")
        write_whole(self.out / PART / "log", pin)

    def _taken(self, what: str) -> InputError:
        return InputError(
            f"{self.out} {what}",
            why="a release folder holds one release and nothing else",
            fix="give a new or empty folder with -o",
            code="folder-taken",
        )

    def _begun(self) -> wire.ManifestReply | None:
        """Return the manifest that this folder was begun or finished with, if it can be trusted."""
        with contextlib.suppress(OSError, InputError, VerificationFailed):
            begun = wire.ManifestReply.from_bytes((self.out / PART / _REPLY).read_bytes())
            self._trust(begun)
            return begun
        with contextlib.suppress(OSError, InputError, VerificationFailed):
            finished = wire.ManifestReply(*read_release(self.out))
            self._trust(finished)
            return finished
        return None

    def _trust(self, reply: wire.ManifestReply) -> TrustedRelease:
        federation = trusted_federation(self.log, reply.spec, reply.keyrings)
        return trusted_release(federation, manifest=reply.document, receipt=reply.receipt)

    def _is_whole(self, entry: FileEntry) -> bool:
        path = place(self.out, entry.name)
        with contextlib.suppress(VerificationFailed, FileNotFoundError):
            check_file(path, entry)
            return True
        return False

    def _check_room(self, waiting: Iterable[FileEntry]) -> None:
        wanted = _RESERVE
        for entry in waiting:
            part = self.out / PART / entry.sha256
            wanted += entry.bytes - (min(part.stat().st_size, entry.bytes) if part.exists() else 0)
        if wanted > shutil.disk_usage(self.out).free:
            raise disk_full(self.out, wanted=wanted)


def _holds(path: Path, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.read_bytes() == data
    return False
