"""What a release folder may hold beside its published files: those that info.json calls derived.

Law: info.json is read only after its own signed hash is right; a derived file that is there has the
length and SHA-256 that info.json says, and one that is not there is no fault, unless the folder was
pulled for its kind (choice.py). Source: formats.md 2, 9.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ..core.derived_file import DerivedFile, read_derived
from ..core.errors import VerificationFailed
from ..core.release import FileEntry, ReleaseManifest

INFO: Final = "info.json"


def info_entry(manifest: ReleaseManifest) -> FileEntry:
    """Return what the manifest says of info.json.

    Raises VerificationFailed: the release has none.
    """
    found = next((entry for entry in manifest.files if entry.name == INFO), None)
    if found is None:
        raise VerificationFailed(
            f"release {manifest.n} has no {INFO}",
            why="every release describes itself",
            fix="take another release, and tell the operator",
            code="not-as-signed",
        )
    return found


def derived_of(info: Path, manifest: ReleaseManifest) -> tuple[DerivedFile, ...]:
    """Return what a release calls derived; ``info``: its info.json, whose hash was checked.

    Raises VerificationFailed: an entry is not as it has to be.
    """
    return read_derived(info.read_bytes(), [entry.name for entry in manifest.files])


def entries_of(files: Iterable[DerivedFile]) -> tuple[FileEntry, ...]:
    """Return derived files as a manifest would list them; nobody fetches them by chunks."""
    return tuple(FileEntry(file.name, file.bytes, file.sha256, (file.sha256,)) for file in files)
