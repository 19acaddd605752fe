"""Decides without a network whether a folder is, byte for byte, the release that was signed.

    1 folder             plain files only, exactly the manifest's and trust/, no symbolic link
    2 spec, keyring, log id, release signature, ledger proof       trust.py, under trust/log
    3 contribution       what the release was made of, where pull was asked for it: proof, signature
    4 size, file hash    every file, against the signed manifest
    5 header             every safetensors file, by our own strict reader

Law: one byte changed, added or removed anywhere in the folder gives exit code 4 and the name of the
check (formats.md 2, law 8). The log id inside the folder is only as good as the folder: compare
the one printed with the one you were given, or pass it. Source: security.md 4.8, 6; T8, T10.
Cost: one read of every file.
"""

import hashlib
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ..core.errors import VerificationFailed
from ..core.release import FileEntry
from ..core.tensorfile import header_length, parse_header
from .contributions import Contributions
from .trust import TrustedRelease, check, trusted_federation, trusted_release

MANIFEST: Final = "manifest.json"
LOG: Final = "trust/log"
SPEC: Final = "trust/spec.json"
PROOF: Final = "trust/release.proof"
KEYRINGS: Final = "trust/keyrings"
_SMALL: Final = 1 << 20
"""Nothing but the release's own files is larger: manifest and spec have this limit."""

OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Verified:
    """A release folder that passed every check."""

    release: TrustedRelease
    num_bytes: int


def verify_folder(
    folder: Path, *, log: str | None = None, on_bytes: OnBytes = lambda *_: None
) -> Verified:
    """Check every byte of ``folder``; with ``log`` also that it is that ledger's.

    Raises VerificationFailed: a check failed, and the text names it.
    """
    with check("folder"):
        present = _files(folder)
    with check("log id"):
        pinned = _pinned(folder, log)
    release, own = _release(folder, present, pinned)
    made_of = Contributions(folder, release).known(present)
    entries = (*release.manifest.files, *(entry for entry in made_of.values() if entry))
    with check("folder"):
        _compare(present, own | set(made_of) | {entry.name for entry in entries})
    total, done = sum(entry.bytes for entry in entries), 0
    for entry in entries:
        path = place(folder, entry.name)
        with check("file hash"):
            check_file(path, entry)
        with check("header"):
            check_header(path, entry.name)
        done += entry.bytes
        on_bytes(entry.name, done, total)
    return Verified(release, total)


def read_release(folder: Path) -> tuple[bytes, bytes, bytes, tuple[bytes, ...]]:
    """Return manifest, proof, spec and keyrings as they lie in a finished folder, unchecked.

    Raises VerificationFailed: one is missing or too large.
    """
    keyrings: list[bytes] = []
    while (folder / (name := f"{KEYRINGS}/{len(keyrings) + 1}.json")).exists():
        keyrings.append(_small(folder, name))
    manifest, proof, spec = (_small(folder, name) for name in (MANIFEST, PROOF, SPEC))
    return manifest, proof, spec, tuple(keyrings)


def check_file(path: Path, entry: FileEntry) -> None:
    """Check size and SHA-256 of one file.

    Raises VerificationFailed: they are not those of the manifest.
    """
    size = path.lstat().st_size
    if size != entry.bytes:
        raise _wrong(f"{entry.name} has {size} bytes, signed are {entry.bytes}", "it was changed")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != entry.sha256:
        raise _wrong(
            f"{entry.name} has SHA-256 {found[:16]}..., signed is {entry.sha256[:16]}...",
            "its bytes were changed",
        )


def check_header(path: Path, name: str) -> None:
    """Check the header of a safetensors file before any loader sees it; others pass.

    Raises VerificationFailed: our strict reader refuses it (T8).
    """
    if not name.endswith(".safetensors"):
        return
    size = path.lstat().st_size
    with path.open("rb") as file:
        length = header_length(file.read(8), file_size=size)
        file.seek(0)
        # Files of checkpoint/ that nothing adapts are the base's own, byte for byte.
        ours = not name.startswith("checkpoint/")
        parse_header(file.read(8 + length), file_size=size, ours=ours)


def place(folder: Path, name: str) -> Path:
    """Return where the file ``name`` of a manifest lies.

    T10: the manifest's reader let only plain names of up to three parts pass; a symbolic link on
    the way would still lead out of the folder.
    """
    path = folder
    for part in name.split("/"):
        path /= part
        if path.is_symlink():
            raise _wrong(f"{path} is a symbolic link", "it could lead out of the folder")
    return path


def _release(folder: Path, present: set[str], log: str) -> tuple[TrustedRelease, set[str]]:
    """Return the trusted manifest and the names of the files that prove it."""
    with check("folder"):
        for name in (MANIFEST, LOG, SPEC, PROOF, f"{KEYRINGS}/1.json"):
            if name not in present:
                raise _wrong(f"{name} is missing", "the pull was not finished, or it was removed")
        manifest, proof, spec, keyrings = read_release(folder)
    federation = trusted_federation(log, spec, keyrings)
    release = trusted_release(federation, manifest=manifest, receipt=proof)
    own = {MANIFEST, LOG, SPEC, PROOF, *(f"{KEYRINGS}/{n + 1}.json" for n in range(len(keyrings)))}
    return release, own


def _pinned(folder: Path, log: str | None) -> str:
    text = _small(folder, LOG).decode("ascii", errors="replace")
    pinned = text.removesuffix("\n")
    if not re.fullmatch("[0-9a-f]{64}", pinned) or text == pinned:
        raise _wrong(f"{LOG} is not one log id", "somebody changed it")
    if log not in (None, pinned):
        raise _wrong(f"log id {pinned} found, {log} given", "it is another ledger's release")
    return pinned


def _files(folder: Path) -> set[str]:
    """Return the names of all files, or refuse what is neither file nor folder."""
    if not folder.is_dir() or folder.is_symlink():
        raise _wrong(f"{folder} is not a folder", "there is nothing to check")
    found: set[str] = set()
    folders: set[str] = set()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            folders.add(name)
        elif stat.S_ISREG(mode):
            found.add(name)
        else:
            raise _wrong(f"{name} is no plain file", "links and devices are not part of a release")
    empty = folders - {
        parent.as_posix() for name in found for parent in PurePosixPath(name).parents
    }
    if empty:
        raise _wrong(f"{min(empty)} is an empty folder", "the release has none")
    return found


def _compare(present: set[str], wanted: set[str]) -> None:
    if missing := sorted(wanted - present):
        raise _wrong(f"{missing[0]} is missing", "the pull was not finished, or it was removed")
    if extra := sorted(present - wanted):
        raise _wrong(f"{extra[0]} is not part of the release", "somebody added it")


def _small(folder: Path, name: str) -> bytes:
    path = place(folder, name)
    if not path.is_file() or path.stat().st_size > _SMALL:
        raise _wrong(f"{name} is missing or larger than {_SMALL} bytes", "it was changed")
    return path.read_bytes()


def _wrong(what: str, why: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why=why,
        fix="do not use the folder; pull the release again into a new one",
        code="not-as-signed",
    )
