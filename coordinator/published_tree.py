"""Writes what a coordinator has published into a folder that any web server can give out.

    spec.json  keyring/<n>.json  tile/...        what proves the ledger, as in ``public/``
    releases/<n>/...                             every published release, manifest.json its last
    contributions/<leaf>.safetensors             what they were made of, as far as it still stands
    checkpoints/<size>                           that checkpoint once more, by its size
    checkpoint, then head.json                   the newest state, last

Laws: a reader never sees a head that names a file which is not there: all else comes first, each
file whole or not at all (F1), and what has gone goes after the new head. Between the writes of
checkpoint and head a reader takes the old head with the old checkpoint by its size, so a run that
is killed there, too, leaves the old state whole. A blob that the sweeper
took after a withdrawal goes here too. A second run writes nothing; a run that was killed is
finished by the next. Everything is derived from public files and blobs, so a running coordinator is
not disturbed and needs no key. Large files are second names of the coordinator's own where the
file system allows it, else copies: give the web server no right to write there. The folder is new,
empty, or one that this federation's head, or on a first run that was killed its spec, says is its
own; and even there nothing is removed under a name that this could not have written.
Source: reliability.md 2.5. Not here: sending the folder anywhere.
"""

import contextlib
import errno
import filecmp
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..core import document
from ..core.contribution import ContributionManifest
from ..core.errors import InputError, Refused, VerificationFailed
from ..core.head import LedgerHead
from ..core.leaf import parse_leaf
from ..core.release import ReleaseManifest
from ..core.tile import ENTRIES, Tile, edge_tiles, split_entries, tile_in
from .folder import DataFolder
from .fs import Fs
from .tiles import tile_files

_HEAD: Final = "head.json"
_CHECKPOINT: Final = "checkpoint"
_MANIFEST: Final = "manifest.json"
_SPEC: Final = "spec.json"
_FIXED: Final = re.compile(
    r"spec\.json|checkpoint|head\.json|keyring/[1-9][0-9]?\.json|checkpoints/[0-9]{1,15}"
    r"|contributions/[0-9]{1,15}\.safetensors"
)
_RELEASED: Final = re.compile(r"releases/[1-9][0-9]{0,14}")
_TEMPORARY: Final = re.compile(r"\.(.+)\.tmp")
_RANDOM: Final = re.compile(r"(checkpoints/)?\.[a-z0-9_]{8}\.tmp")
"""What ``write_whole`` leaves of the few files that are written, not given, when it is killed."""
_GONE: Final = ("withdrawn", "rejected")
_TRIES: Final = 3


@dataclass(slots=True)
class Published:
    """What one run did: files and bytes that are new here, files that went, what is there now."""

    log: str
    release: int
    size: int
    written: int = 0
    written_bytes: int = 0
    removed: int = 0
    names: set[str] = field(default_factory=set)


class PublishedTree:
    """The tree in ``out``, made from one coordinator's folder."""

    def __init__(self, folder: DataFolder, out: Path, *, fs: Fs) -> None:
        """Name both; nothing is read yet."""
        self._folder = folder
        self._public = folder.public
        self._out = out
        self._fs = fs

    def write(self) -> Published:
        """Bring the tree up to date.

        Raises InputError: the folder holds something else. Raises Refused: nothing is there to be
        published, (``no-room``) the disk is full, or (``folder-in-use``) another publish is at it.
        """
        log = LedgerHead.from_document(document.parse(self._newest()[1], kind="head")).log
        self._claim(log)
        with self._fs.alone(self._out):
            return self._write_alone()

    def _write_alone(self) -> Published:
        for attempt in range(_TRIES):
            try:
                return self._write()
            except FileNotFoundError:  # a tile was filled, or a blob swept, meanwhile
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError  # the loop returned or raised

    def _write(self) -> Published:
        note, signed = self._newest()
        head = LedgerHead.from_document(document.parse(signed, kind="head"))
        done = Published(head.log, head.release, head.size)
        self._give(done, _SPEC, self._public / _SPEC)  # first: it tells whose the folder is
        for path in self._folder.keyrings():
            self._give(done, f"keyring/{path.name}", path)
        for name in tile_files(self._public):
            with contextlib.suppress(FileNotFoundError):  # an older state that went meanwhile
                self._give(done, name, self._public / name)
        self._check_edge(head.size)
        manifests = [self._release(done, n) for n in range(1, head.release + 1)]
        for leaf, blob in self._blobs(manifests, head.size):
            with contextlib.suppress(FileNotFoundError):  # withdrawn: nobody is given it any more
                self._give(done, f"contributions/{leaf}.safetensors", self._folder.blob(blob))
        before = self._edge_before()
        self._folders(self._out / "checkpoints")
        self._put(done, f"checkpoints/{head.size}", note)
        self._put(done, _CHECKPOINT, note)
        self._put(done, _HEAD, signed)
        self._prune(done, before)
        return done

    def _claim(self, log: str) -> None:
        """Take the folder: new, empty, or a tree of before of the federation whose log this is."""
        if self._out.resolve().is_relative_to(self._folder.root):
            raise _taken(
                f"{self._out} lies in the coordinator's own folder",
                "the coordinator owns all of it, and a publish removes what is published no more",
            )
        if self._out.is_symlink() or (self._out.exists() and not self._out.is_dir()):
            raise _taken(f"{self._out} is no folder", "a tree of many files is written there")
        there = {path.name for path in self._out.iterdir()} if self._out.is_dir() else set[str]()
        if there - {f".{_SPEC}.tmp"} and not self._is_own(log):
            raise _taken(
                f"{self._out} holds something else",
                "it has no head.json of this federation, so its files are somebody's own",
            )
        self._folders(self._out)

    def _is_own(self, log: str) -> bool:
        """Return whether an earlier run of this federation, ended or killed, wrote the folder.

        Raises InputError: another federation's did.
        """
        with contextlib.suppress(FileNotFoundError, VerificationFailed):
            signed = document.parse((self._out / _HEAD).read_bytes(), kind="head")
            found = LedgerHead.from_document(signed).log
            if found != log:
                raise _taken(
                    f"{self._out} is the mirror of another federation, {found[:16]}...",
                    f"this one's log is {log[:16]}..., and readers of that mirror would lose it",
                )
            return True
        spec = self._out / _SPEC
        return spec.is_file() and spec.read_bytes() == (self._public / _SPEC).read_bytes()

    def _newest(self) -> tuple[bytes, bytes]:
        """Return checkpoint and head, of one state."""
        try:
            for _ in range(_TRIES):
                signed = (self._public / _HEAD).read_bytes()
                note = (self._public / _CHECKPOINT).read_bytes()
                if (self._public / _HEAD).read_bytes() == signed:
                    size = LedgerHead.from_document(document.parse(signed, kind="head")).size
                    if note.split(b"\n")[1:2] == [str(size).encode()]:
                        return note, signed
        except FileNotFoundError:
            pass
        raise Refused(
            "the coordinator's public files are not of one state",
            why="it never ran, was killed between two of them, or is writing them now",
            fix="run orthofed coordinator status DIR, then this again",
            code="nothing-published",
        )

    def _check_edge(self, size: int) -> None:
        """Raise FileNotFoundError where neither a tile at the edge nor the full one was taken."""
        for tile in edge_tiles(size):
            if not any((self._out / each.name).is_file() for each in (tile, tile.full)):
                raise FileNotFoundError(errno.ENOENT, "a tile of the checkpoint", tile.name)

    def _release(self, done: Published, n: int) -> ReleaseManifest:
        source, name = self._public / "releases" / str(n), f"releases/{n}"
        signed = document.parse((source / _MANIFEST).read_bytes(), kind="release")
        manifest = ReleaseManifest.from_document(signed)
        for entry in manifest.files:
            self._give(done, f"{name}/{entry.name}", source / entry.name)
        self._give(done, f"{name}/{_MANIFEST}", source / _MANIFEST)
        return manifest

    def _blobs(self, manifests: list[ReleaseManifest], size: int) -> Iterator[tuple[int, str]]:
        """Give leaf and blob of every contribution that a release holds and that stands."""
        # Its own word counts, not only the blob's absence: another may have sent the same bytes.
        gone = {leaf for each in manifests[-1:] for leaf, why in each.left_out if why in _GONE}
        leaves = sorted({leaf for each in manifests for leaf, _ in each.contributions} - gone)
        bodies: tuple[bytes, ...] = ()
        bundle = -1
        for leaf in leaves:
            if leaf >> 8 != bundle:
                bundle = leaf >> 8
                bodies = self._bodies(tile_in(ENTRIES, bundle, size))
            doc = document.from_value(parse_leaf(bodies[leaf & 0xFF])["doc"], kind="contribution")
            said = ContributionManifest.from_document(doc)
            if said.form == "public":
                yield leaf, said.blob

    def _bodies(self, tile: Tile) -> tuple[bytes, ...]:
        for each in (tile, tile.full):
            with contextlib.suppress(FileNotFoundError):
                data = (self._out / each.name).read_bytes()
                return split_entries(data, each.width)
        raise FileNotFoundError(errno.ENOENT, "a tile of leaves", tile.name)

    def _edge_before(self) -> set[str]:
        """Return the tiles and the checkpoint that a reader of the head of before asks for."""
        with contextlib.suppress(FileNotFoundError, VerificationFailed):
            signed = document.parse((self._out / _HEAD).read_bytes(), kind="head")
            size = LedgerHead.from_document(signed).size
            return {f"checkpoints/{size}", *(tile.name for tile in edge_tiles(size))}
        return set()

    def _give(self, done: Published, name: str, source: Path) -> None:
        """Have the bytes of ``source`` under ``name``, as a second name of it or as a copy."""
        done.names.add(name)
        target = self._out / name
        if target.is_file() and _is_same(source, target):
            return
        self._folders(target.parent)
        temporary = target.with_name(f".{target.name}.tmp")
        self._fs.remove(temporary)
        try:
            self._fs.link_unsynced(source, temporary)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            self._fs.copy(source, temporary)
            temporary.chmod(0o644)
        done.written += 1
        done.written_bytes += source.stat().st_size
        self._fs.rename(temporary, target)

    def _put(self, done: Published, name: str, data: bytes) -> None:
        done.names.add(name)
        target = self._out / name
        if not target.is_file() or target.read_bytes() != data:
            done.written += 1
            done.written_bytes += len(data)
            self._fs.write_whole(target, data)

    def _prune(self, done: Published, kept: set[str]) -> None:
        """Remove what is published no more, and the folders that it leaves empty."""
        released = self._released_before()
        for path in sorted(self._out.rglob("*"), reverse=True):
            name = path.relative_to(self._out).as_posix()
            if name in done.names or name in kept or not _could_write(name, released):
                continue
            if path.is_file() or path.is_symlink():
                self._fs.remove(path)
                done.removed += 1
                self._remove_empty(path.parent)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._out and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _released_before(self) -> set[str]:
        """Return the files of every release whose manifest is there, also of one that was lost."""
        names = set[str]()
        for path in self._out.glob(f"releases/*/{_MANIFEST}"):
            folder = path.parent.relative_to(self._out).as_posix()
            if not _RELEASED.fullmatch(folder):
                continue
            names.add(f"{folder}/{_MANIFEST}")
            with contextlib.suppress(VerificationFailed, OSError):
                signed = document.parse(path.read_bytes(), kind="release")
                files = ReleaseManifest.from_document(signed).files
                names |= {f"{folder}/{entry.name}" for entry in files}
        return names

    def _folders(self, folder: Path) -> None:
        if not folder.is_dir():
            self._folders(folder.parent)
            self._fs.make_folder(folder)


def _is_same(source: Path, target: Path) -> bool:
    """Return whether both names have the same bytes; one file under two names is not read."""
    return source.samefile(target) or filecmp.cmp(source, target, shallow=False)


def _could_write(name: str, released: set[str]) -> bool:
    """Return whether a publish, ended or killed, could have written a file of this name."""
    folder, slash, last = name.rpartition("/")
    if (whole := _TEMPORARY.fullmatch(last)) is not None:
        written = _RANDOM.fullmatch(name) is not None
        return written or _could_write(f"{folder}{slash}{whole[1]}", released)
    return _FIXED.fullmatch(name) is not None or name in released or Tile.names(name)


def _taken(what: str, why: str) -> InputError:
    return InputError(
        what,
        why=why,
        fix="give a new or empty folder, or one that this command wrote for this federation",
        code="folder-taken",
    )
