"""Writes the files that core describes into the folder of a release that is being built.

Laws: each file is new, synced, and made of the pieces that core gives, in their order; adapted
weights are computed ahead on other threads, which changes no byte; a concept's own files are taken
from the release before, if it has them (carried.py). Folders are made as names ask for them; the
caller syncs the last of them. Cost: the adapted weights under way are the most that is in memory.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..core.base_files import BaseFiles
from ..core.derived_file import DerivedFile, derive
from ..core.lorafile import FileOrigin
from ..core.merging import Merge
from ..core.pipeline import checkpoint_files
from ..core.release import FileEntry
from ..core.release_file import MadeFile, PlainFile, ReleaseFile, TensorFile
from .ahead import ahead
from .carried import Carried
from .fs import Fs
from .tensorwriter import write_tensors

_THREADS = min(4, os.cpu_count() or 1)
_AHEAD = 24
"""Adapted weights under way or ready: 79 MB in SD 1.5."""


@dataclass(frozen=True, slots=True)
class Written:
    """One file that lies there: what info.json says of it, if it holds tensors.

    ``entry``: its length and hashes, where they are known already.
    """

    name: str
    made: MadeFile | None = None
    entry: FileEntry | None = None


def write_files(
    out: Path, files: Iterable[ReleaseFile], *, carried: Carried, fs: Fs
) -> Iterator[Written]:
    """Write each file under ``out``, which is there, and tell of it."""
    folders = {out}
    for file in files:
        _make_folders(out / file.name, folders, fs)
        if isinstance(file, TensorFile):
            yield _write_tensors(out, file, carried, fs)
        else:
            _write_plain(out, file, fs)
            yield Written(file.name)


def write_checkpoint(
    out: Path, base: BaseFiles, merge: Merge, *, carried: Carried, fs: Fs, threads: int = _THREADS
) -> Iterator[Written]:
    """Write the pipeline under ``out/checkpoint``, its weights computed on ``threads`` threads."""
    with ThreadPoolExecutor(threads) as pool:
        files = checkpoint_files(base, merge, run=partial(ahead, pool=pool, num=_AHEAD))
        yield from write_files(out, files, carried=carried, fs=fs)


def derive_files(  # what they follow from
    base: BaseFiles,
    merge: Merge,
    origin: FileOrigin,
    *,
    n: int,
    kinds: Collection[str],
    merged: BaseFiles | None,
    threads: int = _THREADS,
) -> list[DerivedFile]:
    """Return what the files of ``kinds`` would be, weights computed on ``threads`` threads."""
    with ThreadPoolExecutor(threads) as pool:
        run = partial(ahead, pool=pool, num=_AHEAD)
        return derive(merge, origin, base, n=n, kinds=kinds, run=run, merged=merged)


def _write_tensors(out: Path, file: TensorFile, carried: Carried, fs: Fs) -> Written:
    """Carry the file over, or write it; its data is not asked for before that."""
    digest = carried.take(out, file, fs=fs)
    if digest is not None:
        return Written(file.name, file.made(digest), carried.files[file.name])
    return Written(file.name, file.made(write_tensors(out / file.name, file, fs=fs)))


def _write_plain(out: Path, file: PlainFile, fs: Fs) -> None:
    path = out / file.name
    fd = fs.create(path, os.O_WRONLY | os.O_EXCL, 0o644)
    try:
        for piece in file.data:
            fs.write(fd, piece)
        fs.sync(fd, path.name)
    finally:
        os.close(fd)


def _make_folders(path: Path, folders: set[Path], fs: Fs) -> None:
    if path.parent not in folders:
        _make_folders(path.parent, folders, fs)
        fs.make_folder(path.parent)
        folders.add(path.parent)
