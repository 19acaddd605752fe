"""``derived`` of info.json: files that follow from a release and need not be published with it.

    [{"bytes", "kind", "name", "sha256", "tensors"}], by name; "tensors" of tensor files alone

Laws (formats.md 9): the entry says which bytes a consumer makes from the contributions and the
base, and the signed hash of info.json covers it; a name is safe on every system and lies in its
kind's folder, so it never takes another file's place (T10). Nothing is kept while the hashes are
taken. Cost: the data of a file is made once, or twice where its header holds the hash of its data,
as that of ``full/`` does; with ``merged``, a whole checkpoint, a full file is copied from it.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, cast

from . import canonical
from .base_files import BaseFiles
from .fields import Fields, bad_field
from .full_file import full_files
from .kinds import DERIVABLE, release_files
from .lorafile import FileOrigin
from .merging import Merge
from .release import check_release_name
from .release_file import ReleaseFile, Run, TensorFile, in_turn

_MOST_FILES: Final = 4_096
_OTHER: Final = "1" * 64
_FOLDERS: Final = {"a1111": "lora/"}


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """One file that is not published: ``tensors`` is its tensor hash, empty for other files."""

    name: str
    kind: str
    bytes: int
    sha256: str
    tensors: str = ""

    def body(self) -> dict[str, object]:
        """Return its entry in info.json."""
        said: dict[str, object] = {
            "bytes": self.bytes,
            "kind": self.kind,
            "name": self.name,
            "sha256": self.sha256,
        }
        return {**said, "tensors": self.tensors} if self.tensors else said


def derive(
    merge: Merge,
    origin: FileOrigin,
    base: BaseFiles | None,
    *,
    n: int,
    kinds: Collection[str],
    run: Run = in_turn,
    merged: BaseFiles | None = None,
) -> list[DerivedFile]:
    """Return what the files of ``kinds`` are, by name; they are made and let go.

    ``merged``: the pipeline in ``checkpoint/`` of the very merge, where it has been written.
    Raises InputError: the base lacks a layer.
    """

    def files() -> Iterator[ReleaseFile]:
        here = set(kinds) - ({"full"} if merged is not None else set())
        yield from release_files(merge, origin, base, n=n, kinds=here, run=run)
        if base is not None and merged is not None and "full" in kinds:
            yield from full_files(base, merge, origin, n=n, merged=merged)

    hashes = dict[str, str]()
    found = list[DerivedFile]()
    for file in files():
        if isinstance(file, TensorFile) and file.header() != file.header(_OTHER):
            digest = hashlib.sha256()
            for piece in file.data:
                digest.update(piece)
            hashes[file.name] = digest.hexdigest()
        else:
            found.append(_hashed(file, _kind(file), ""))
    if hashes:
        for file in files():
            if file.name in hashes:
                found.append(_hashed(file, _kind(file), hashes[file.name]))
    return sorted(found, key=lambda each: each.name)


def read_derived(info: bytes, published: Collection[str]) -> tuple[DerivedFile, ...]:
    """Return the ``derived`` of an info.json, which says nothing of it where there is none.

    ``published``: the names of the release's own files. Raises VerificationFailed: an entry that
    is not as the law says.
    """
    told = _told(info)
    if "derived" not in told:
        return ()
    fields = Fields({"derived": told["derived"]}, "info.json", need=("derived",))
    found = tuple(_entry(item) for item in fields.items("derived", least=1, most=_MOST_FILES))
    names = [each.name for each in found]
    if names != sorted(set(names)) or set(names) & set(published):
        raise bad_field("`derived` of info.json is not sorted by name, each once and unpublished")
    return found


def published_kinds(info: bytes) -> frozenset[str]:
    """Return the kinds of the files that an info.json lists as published.

    Raises VerificationFailed.
    """
    files = _told(info).get("files")
    if not isinstance(files, list):
        raise bad_field("info.json has no list of files")
    files = cast("list[object]", files)
    kinds = {
        cast("dict[str, object]", item).get("kind") for item in files if isinstance(item, dict)
    }
    return frozenset(kind for kind in kinds if isinstance(kind, str))


def _told(info: bytes) -> dict[str, object]:
    told = canonical.decode(info)
    if not isinstance(told, dict):
        raise bad_field("info.json is no object")
    return cast("dict[str, object]", told)


def _entry(value: object) -> DerivedFile:
    fields = Fields(
        value,
        "a derived file",
        need=("bytes", "kind", "name", "sha256"),
        may=("tensors",),
    )
    name, kind = fields.text("name"), fields.one_of("kind", DERIVABLE)
    check_release_name(name)
    if not name.startswith(_FOLDERS.get(kind, f"{kind}/")):
        raise bad_field(f"a derived file of kind {kind} lies in another folder")
    tensors = fields.hex("tensors") if "tensors" in fields else ""
    return DerivedFile(name, kind, fields.integer("bytes"), fields.hex("sha256"), tensors)


def _kind(file: ReleaseFile) -> str:
    """Return the kind of a file; one that holds no tensors is named by its folder."""
    return file.kind if isinstance(file, TensorFile) else file.name.partition("/")[0]


def _hashed(file: ReleaseFile, kind: str, tensors: str) -> DerivedFile:
    """Return length and hashes of a file; ``tensors`` where its header says its tensor hash."""
    whole, data, size = hashlib.sha256(), hashlib.sha256(), 0
    if isinstance(file, TensorFile):
        header = file.header(tensors) if tensors else file.header()
        whole.update(header)
        size = len(header)
    for piece in file.data:
        whole.update(piece)
        size += len(piece)
        if not tensors:
            data.update(piece)
    if tensors or not isinstance(file, TensorFile):
        return DerivedFile(file.name, kind, size, whole.hexdigest(), tensors)
    return DerivedFile(file.name, kind, size, whole.hexdigest(), data.hexdigest())
