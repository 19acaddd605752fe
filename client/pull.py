"""Fetches one release into a folder: resumed at any byte, hashed as it arrives, whole or not there.

    1  head, checkpoint, keyrings, spec -> ledger_view.py: fresh, and continuing what was seen
    2  every leaf of the ledger -> trusted_ledger.py; what was seen is remembered
    3  the manifest -> its leaf, signature, both lists; room on the disk for what is missing
    4  each file into .pull/<sha256>: every 16 MiB chunk hashed as it arrives, then the whole file,
       then its header read, synced and renamed to its own name; if asked, what they are made of,
       and of that what the release leaves out, by the hashes in info.json
    5  trust/ for `orthofed verify` without a network, manifest.json last

Laws: no byte is under a final name before its hash is right; a kill anywhere costs at most what
was not yet written; a damaged chunk is fetched again alone, once; every size is known before the
fetch, so an endless or short answer is refused (T16); names come from the signed manifest, pass
its rules and never leave the folder (T10). The head is remembered before the files come: it is the
ledger's word whatever they are. Source: reliability.md R17, formats.md 2.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..core.base_files import BaseFiles
from ..core.derived_file import DerivedFile, read_derived
from ..core.errors import InputError, Refused, VerificationFailed
from ..core.release import FileEntry
from ..core.tile import TILE_WIDTH, join_entries
from .choice import CHOICE, choice_bytes, chosen_derived, chosen_files
from .composition import VECTORS, prediction_of, smallest_vectors
from .contributions import FOLDER as CONTRIBUTIONS
from .contributions import Contributions
from .derived_files import INFO, derived_of, entries_of, info_entry
from .download import Download
from .home import PUBLIC, appear, disk_full, sync_folder, told_when_full, write_whole
from .ledger_view import LedgerView, look, remember
from .make_adapters import make_adapters
from .make_derived import make_derived, usable_base
from .origin import Origin, Wanted
from .public_source import read_entries
from .seen_heads import SeenHeads
from .traffic import Traffic
from .trust import check, mismatch
from .trusted_ledger import TrustedLedger, TrustedRelease, trusted_ledger
from .verify import (
    LOG,
    MANIFEST,
    PROOF,
    TRUST,
    check_file,
    check_header,
    entry_tiles,
    place,
)

PART: Final = ".pull"
_RESERVE: Final = 1 << 20
"""Bytes to be left free besides the release: folders, proofs, the file system's own."""

_BLOCK: Final = 512
"""The unit of ``st_blocks``."""

OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Begun:
    """A release that is trusted, and the ledger that says so."""

    release: TrustedRelease
    view: LedgerView
    ledger: TrustedLedger
    document: bytes


@dataclass(frozen=True, slots=True)
class Pull:
    """One release on its way into ``out``. ``on_bytes(name, done, total)`` hears the progress.

    ``seen``: what this client remembers of ledgers; ``clock`` gives Unix seconds. ``origin`` shows
    the ledger; files come from ``mirrors``, where there are some, and from it what they lack.
    ``traffic`` counts what comes, and after ``run`` says what did not have to.
    ``base``: the base model, where whole models are made here.
    """

    origin: Origin
    log: str
    out: Path
    seen: SeenHeads
    on_bytes: OnBytes = lambda *_: None
    clock: Callable[[], float] = time.time
    mirrors: tuple[Origin, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)
    base: BaseFiles | None = None

    def run(
        self, n: int = 0, *, contributions: bool = False, kinds: Collection[str] = ()
    ) -> TrustedRelease:
        """Fetch release ``n``, 0 for the newest, and return it trusted and whole.

        ``contributions``: also what it was made of, for `orthofed verify --rebuild`. ``kinds``:
        only the files for these (choice.py); what the release leaves out is made of its
        contributions, which stay for the next time. An older release in the folder is brought up
        to this one: files that are the same stay, those that it lacks go.

        Raises InputError: the folder holds something else, or the base is missing. Raises
        VerificationFailed: the other side served bytes that are not the release, or an old or a
        forked ledger. Raises Refused: there is no such release. Raises OrthoFedError (disk-full).
        """
        begun = self.begin(n)
        release = begun.release
        with self.let_go_when_refused() if self._may_let_go(begun) else contextlib.nullcontext():
            derived = self._derived(release) if kinds else ()
            files = chosen_files(release.manifest, kinds, derived)
            chosen = chosen_derived(derived, kinds)
            made = entries_of(chosen)
            missing = [f for f, e in zip(chosen, made, strict=True) if not self._is_whole(e)]
            usable_base({file.kind for file in missing}, self.base, release.federation.spec)
        blobs = tuple(Contributions(self.out, release).wanted()) if contributions or missing else ()
        wanted = (*files, *made, *(each.entry for each in blobs if contributions))
        self.traffic.wanted_bytes += sum(entry.bytes for entry in wanted)
        self._check_room(
            [each for each in (*map(Wanted, files), *blobs) if not self._is_whole(each.entry)],
            made_bytes=sum(file.bytes for file in missing),
        )
        if blobs:
            self.fetch_contributions(release)
        if contributions:
            self._make(release, files)
        self.fetch(release, files)
        if missing:
            self._make_derived(release, missing)
        self._finish(begun, {entry.name for entry in (*files, *made)}, kinds)
        return release

    def begin(self, n: int = 0) -> Begun:
        """Take the folder and return the release, trusted; none of its files yet."""
        self._claim()
        source = self.origin
        view = look(source, self.log, self.seen, now_s=int(self.clock()))
        with check("ledger"):
            bodies = read_entries(source, view.head.size)
        ledger = trusted_ledger(view.federation, view.checkpoint, bodies, view.keyrings)
        with check("head"):
            ledger.check_head(view.head)
        remember(view, self.seen)
        signed = self._begun(ledger, n or view.head.release)
        if signed is None:
            signed = self._manifest(n or view.head.release, ledger)
        release = ledger.release(signed)
        if n not in (0, release.manifest.n):
            raise self._taken(f"was begun with release {release.manifest.n}, not {n}")
        write_whole(self.out / PART / MANIFEST, signed, mode=PUBLIC)
        return Begun(release, view, ledger, signed)

    @contextlib.contextmanager
    def let_go_when_refused(self) -> Iterator[None]:
        """Within it, a refusal is an answer and no break: what comes next may be of any release.

        What was fetched stays: contributions are the ledger's, whatever the release.
        """
        try:
            yield
        except (InputError, Refused):
            (self.out / PART / MANIFEST).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a whole release stays one: nothing else lies there
                (self.out / PART).rmdir()
            raise

    def _manifest(self, n: int, ledger: TrustedLedger) -> bytes:
        ledger.manifest_id(n)  # before a question that may have no answer
        signed = self.origin.manifest(n)
        found = ledger.release(signed)
        with check("manifest"):
            if found.manifest.n != n:  # T16: a release of the ledger, and not the one asked for
                raise mismatch(f"release {found.manifest.n} was served, asked for was {n}")
        return signed

    def fetch(self, release: TrustedRelease, entries: Iterable[FileEntry]) -> None:
        """Fetch the files of ``entries`` that are not whole yet."""
        self._download([Wanted(entry, n=release.manifest.n) for entry in entries])

    def _make(self, release: TrustedRelease, files: Collection[FileEntry]) -> None:
        """Make what follows from the contributions, which are there, instead of fetching it."""
        vectors = [entry for entry in files if entry.name.startswith(VECTORS)]
        missing = [entry for entry in files if not self._is_whole(entry)]
        if not vectors or not missing or not release.manifest.contributions:
            return
        like = min(vectors, key=lambda entry: (entry.bytes, entry.name))
        self.fetch(release, [like])
        make_adapters(
            Contributions(self.out, release),
            place(self.out, like.name),
            [entry for entry in missing if entry is not like],
            work=self.out / PART,
            arrived=lambda entry, part: self._arrived(Wanted(entry), part),
        )

    def _derived(self, release: TrustedRelease) -> tuple[DerivedFile, ...]:
        """Return what the release's info.json, which is fetched, calls derived."""
        entry = info_entry(release.manifest)
        self.fetch(release, [entry])
        with check("derived"):
            return derived_of(place(self.out, entry.name), release.manifest)

    def _make_derived(self, release: TrustedRelease, missing: Collection[DerivedFile]) -> None:
        """Make what the release leaves out; its contributions are there."""
        like = smallest_vectors(release.manifest)
        self.fetch(release, [like])
        make_derived(
            Contributions(self.out, release),
            missing,
            prediction=prediction_of(place(self.out, like.name)),
            base=self.base,
            work=self.out / PART,
            on_bytes=self.on_bytes,
            arrived=lambda entry, part: self._arrived(Wanted(entry), part),
        )

    def fetch_contributions(
        self, release: TrustedRelease, leaves: Collection[int] | None = None
    ) -> None:
        """Fetch what the release was made of, or those at ``leaves`` alone."""
        wanted = Contributions(self.out, release).wanted()
        self._download(each for each in wanted if leaves is None or each.leaf in leaves)

    def _download(self, wanted: Iterable[Wanted]) -> None:
        waiting = [each for each in wanted if not self._is_whole(each.entry)]
        self._check_room(waiting)
        origins = (*self.mirrors, self.origin)
        while waiting:  # two files of the same bytes have one part: they come after one another
            once = {each.entry.sha256: each for each in reversed(waiting)}
            waiting = [each for each in waiting if once[each.entry.sha256] is not each]
            unique = sorted(once.values(), key=lambda each: each.entry.name)
            download = Download(origins, self.out / PART, self.on_bytes)
            try:
                download.run(unique, self._arrived)
            finally:
                self.traffic.fetched_bytes += download.fetched_bytes

    def _arrived(self, wanted: Wanted, part: Path) -> None:
        """Give one whole file its name."""
        entry = wanted.entry
        target = place(self.out, entry.name)
        with check("header"):
            check_header(part, entry.name)
        with told_when_full(target, wanted=entry.bytes):
            target.parent.mkdir(parents=True, exist_ok=True)
            appear(part, target)

    def _finish(self, begun: Begun, files: Collection[str], kinds: Collection[str]) -> None:
        """Write what proves the release; the manifest last, then drop the part folder."""
        self._prune(begun, files)
        if kinds:
            write_whole(self.out / CHOICE, choice_bytes(kinds), mode=PUBLIC)
        else:
            (self.out / CHOICE).unlink(missing_ok=True)
        self.write_trust(self.out, begun)
        write_whole(self.out / MANIFEST, begun.document, mode=PUBLIC)
        shutil.rmtree(self.out / PART)
        sync_folder(self.out)

    def write_trust(self, out: Path, begun: Begun) -> None:
        """Write into ``out`` what proves the release without a network."""
        trust, bodies = out / TRUST, begun.ledger.bodies
        shutil.rmtree(trust / "tile", ignore_errors=True)  # of an earlier pull: fewer leaves
        write_whole(out / LOG, self.log.encode() + b"\n", mode=PUBLIC)
        for name, data in begun.view.files.items():
            write_whole(trust / name, data, mode=PUBLIC)
        for tile in entry_tiles(len(bodies)):
            some = bodies[tile.index * TILE_WIDTH :][: tile.width]
            write_whole(trust / tile.name, join_entries(some), mode=PUBLIC)
        proof = begun.ledger.prove(begun.release.leaf, begun.view.note)
        write_whole(out / PROOF, proof, mode=PUBLIC)

    def _prune(self, begun: Begun, files: Collection[str]) -> None:
        """Remove what this and an older release put here and this pull does not.

        Only names of manifests that the ledger has, and of blobs: nobody's own file goes.
        """
        known = {entry.name for entry in begun.release.manifest.files}
        with contextlib.suppress(OSError, VerificationFailed):
            older = begun.ledger.release((self.out / MANIFEST).read_bytes())
            known |= {entry.name for entry in older.manifest.files}
        with contextlib.suppress(OSError, VerificationFailed):
            info = (self.out / INFO).read_bytes()
            known |= {file.name for file in read_derived(info, known)}
        known |= self._made_before(begun.release)
        for name in sorted(known - set(files)):
            remove(self.out, name)
        kept = {entry.name for entry in Contributions(self.out, begun.release).entries()}
        for path in (self.out / CONTRIBUTIONS).glob("*.safetensors"):
            if (name := path.relative_to(self.out).as_posix()) not in kept:
                remove(self.out, name)

    def _made_before(self, release: TrustedRelease) -> set[str]:
        """Return the files here whose names only a derived file of some release has."""
        fed = re.escape(release.federation.spec.name)
        made = re.compile(
            rf"full/{fed}-r[0-9]+-full\.safetensors|lora/{fed}-r[0-9]+-a1111\.safetensors"
        )
        found = (*self.out.glob("full/*"), *self.out.glob("lora/*"))
        names = {path.relative_to(self.out).as_posix() for path in found}
        return {name for name in names if made.fullmatch(name)}

    def _claim(self) -> None:
        """Take the folder: new, empty, or begun by a pull of the same ledger."""
        if self.out.is_symlink() or (self.out.exists() and not self.out.is_dir()):
            raise self._taken("is not a folder")
        pin = self.log.encode() + b"\n"
        if any(_holds(self.out / name, pin) for name in (f"{PART}/log", LOG)):
            return
        if self.out.is_dir() and any(path.name != PART for path in self.out.iterdir()):
            raise self._taken("holds files that no pull of this federation put there")
        write_whole(self.out / PART / "log", pin, mode=PUBLIC)

    def _taken(self, what: str) -> InputError:
        return InputError(
            f"{self.out} {what}",
            why="a release folder holds one release and nothing else",
            fix="give a new or empty folder with -o",
            code="folder-taken",
        )

    def _begun(self, ledger: TrustedLedger, n: int) -> bytes | None:
        """Return the manifest that this folder was begun with, or with ``n`` finished.

        None where it cannot be trusted, or is that of another whole release.
        """
        for path in (self.out / PART / MANIFEST, self.out / MANIFEST):
            with contextlib.suppress(OSError, VerificationFailed):
                signed = path.read_bytes()
                found = ledger.release(signed)
                if path.parent.name == PART or found.manifest.n == n:
                    return signed
        return None

    def _may_let_go(self, begun: Begun) -> bool:
        """Whether this very release is here already, or no file that another would leave behind."""
        if _holds(self.out / MANIFEST, begun.document):
            return True
        names = (entry.name for entry in begun.release.manifest.files if entry.name != INFO)
        return not any(place(self.out, name).exists() for name in names)

    def _is_whole(self, entry: FileEntry) -> bool:
        path = place(self.out, entry.name)
        with contextlib.suppress(VerificationFailed, FileNotFoundError):
            check_file(path, entry)
            return True
        return False

    def _check_room(self, waiting: Iterable[Wanted], *, made_bytes: int = 0) -> None:
        wanted = _RESERVE + made_bytes
        for entry in (each.entry for each in waiting):
            part = self.out / PART / entry.sha256
            there = part.stat().st_blocks * _BLOCK if part.exists() else 0  # a part has holes
            wanted += entry.bytes - min(there, entry.bytes)
        if wanted > shutil.disk_usage(self.out).free:
            raise disk_full(self.out, wanted=wanted)


def remove(folder: Path, name: str) -> None:
    """Remove one file of a release, and the folders that it leaves empty."""
    path = place(folder, name)
    path.unlink(missing_ok=True)
    for above in path.parents:
        if above == folder:
            return
        with contextlib.suppress(OSError):  # not empty, or not there
            above.rmdir()


def _holds(path: Path, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.read_bytes() == data
    return False
