"""Files of the release before that the next one has as well, byte for byte.

A concept's own LoRA and its learned vectors depend on that concept alone (formats.md 1, law 1), so
a release with one concept more or less writes that concept's files and gives all others a second
name. Laws: nothing is believed: the header must be the one that would be written now, and the
hashes those of the manifest that the plan names; what is absent or differs is made again. So this
saves time and changes no byte. Cost: one hash of the file, which its new manifest needs anyway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..core.document import parse
from ..core.errors import OrthoFedError
from ..core.release import FileEntry, ReleaseManifest
from ..core.release_file import TensorFile
from ..core.tensorfile import header_length, parse_header
from .fileentry import file_entry
from .fs import Fs

_HASH = "modelspec.hash_sha256"
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Carried:
    """The folder of the release before, and what its manifest says of its files, by name."""

    folder: Path
    files: Mapping[str, FileEntry]

    @classmethod
    def of(cls, folder: Path, manifest_id: str) -> Self:
        """Return what the release with that manifest has; nothing when it is not in ``folder``."""
        try:
            signed = parse((folder / "manifest.json").read_bytes(), kind="release")
            if signed.id != manifest_id:  # the id is from the database: no signature to check
                return cls(folder, {})
            manifest = ReleaseManifest.from_document(signed)
        except (OSError, OrthoFedError):
            return cls(folder, {})
        return cls(folder, {file.name: file for file in manifest.files})

    def take(self, out: Path, file: TensorFile, *, fs: Fs) -> str | None:
        """Give the file a second name in ``out`` and return its tensor hash; None: make it.

        The caller syncs the folder.
        """
        name = file.name
        if name not in self.files:
            return None
        try:
            header, digest = _header(self.folder / name)
            # A header without a hash would be the same over other numbers: a checkpoint's.
            if not digest or header != file.header(digest):
                return None
            fs.link_unsynced(self.folder / name, out / name)
            if file_entry(out, name) == self.files[name]:
                return digest
        except (OSError, OrthoFedError):  # gone, cut short, or no tensor file at all
            pass
        fs.remove(out / name)
        return None


def _header(path: Path) -> tuple[bytes, str]:
    """Return everything before the data, and the tensor hash that it names."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(_LENGTH_BYTES)
        header = first + file.read(header_length(first, file_size=size))
    said = parse_header(header, file_size=size).metadata
    return header, said.get(_HASH, "").removeprefix("0x")
