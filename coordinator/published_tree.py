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
file system allows it, else copies: give the web server no right to write there.
Source: reliability.md 2.5. Not here: sending the folder anywhere.
"""

import contextlib
import errno
import filecmp
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
_OURS: Final = (
    "checkpoints",
    "contributions",
    "keyring",
    "releases",
    "tile",
    _CHECKPOINT,
    _HEAD,
    "spec.json",
)
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
        published, or (``no-room``) the disk is full.
        """
        self._claim()
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
        self._give(done, "spec.json", self._public / "spec.json")
        for path in sorted((self._public / "keyring").glob("*.json")):
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

    def _claim(self) -> None:
        """Take the folder: new, empty, or a tree of before."""
        taken = self._out.is_symlink() or (self._out.exists() and not self._out.is_dir())
        if not taken and self._out.is_dir():
            taken = any(p.name not in _OURS and p.suffix != ".tmp" for p in self._out.iterdir())
        if taken:
            raise InputError(
                f"{self._out} holds something else",
                why="what is not published any more is removed there",
                fix="give a new or empty folder, or one that this command wrote",
                code="folder-taken",
            )
        self._folders(self._out)
        self._fs.remove_temporaries(self._out)

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
        """Remove what is published no more, the deepest folders first."""
        for path in sorted(self._out.rglob("*"), reverse=True):
            name = path.relative_to(self._out).as_posix()
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif name not in done.names and name not in kept:
                self._fs.remove(path)
                done.removed += 1

    def _folders(self, folder: Path) -> None:
        if not folder.is_dir():
            self._folders(folder.parent)
            self._fs.make_folder(folder)


def _is_same(source: Path, target: Path) -> bool:
    """Return whether both names have the same bytes; one file under two names is not read."""
    return source.samefile(target) or filecmp.cmp(source, target, shallow=False)
