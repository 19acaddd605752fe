"""Decides without a network whether a folder is, byte for byte, the release that was signed.

    1 folder             plain files only, exactly the manifest's and trust/, no symbolic link
    2 log id, spec, keyring, checkpoint, head        ledger_view.py, of the tree in trust/
    3 expiry, age        the keyring is in force on the day asked about; the head's age, if bounded
    4 ledger             every leaf, up to the checkpoint                      trusted_ledger.py
    5 manifest, ledger proof, release signature, completeness                  trusted_ledger.py
    6 contribution       what it was made of, where pull was asked for it: each client's signature
    7 derived            what info.json says that a consumer can make, after its own hash
    8 file hash          every file, its size and SHA-256, against the signed manifest or info.json
    9 header             every safetensors file and sample picture, by our own strict readers;
                         no file of a kind that a program might run

Laws: one byte changed, added or removed anywhere in the folder gives exit code 4 and the name of
the check (formats.md 2, law 8), but for a witness's line under a checkpoint, which says nothing. A
folder cannot know what came after it: its head says when it was true, and only ``pull`` refuses a
head older than ``fresh``; here ``max_age_s`` does, if given. The log id inside the folder is only
as good as the folder: compare the one printed with the one you were given, or pass it. Source:
security.md 4.8, 6; T8, T10, T16. Cost: one read of every file.
"""

import hashlib
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from ..core.errors import VerificationFailed
from ..core.receipt import verify_receipt
from ..core.release import FileEntry, ReleaseManifest
from ..core.sample_picture import FOLDER, MOST_BYTES, check_picture
from ..core.shown import shown
from ..core.spec_parts import MAX_SPEC_BYTES
from ..core.tensorfile import header_length, parse_header
from ..core.tile import ENTRIES, Tile
from .choice import CHOICE, chosen_derived, chosen_files, read_choice
from .contributions import Contributions
from .derived_files import derived_of, entries_of, info_entry
from .ledger_view import LedgerView, read_view
from .public_source import FolderSource, read_entries
from .trust import check, mismatch
from .trusted_ledger import TrustedLedger, TrustedRelease, trusted_ledger

MANIFEST: Final = "manifest.json"
TRUST: Final = "trust"
LOG: Final = "trust/log"
SPEC: Final = "trust/spec.json"
PROOF: Final = "trust/release.proof"
_KNOWN: Final = (".json", ".md", ".model", ".png", ".safetensors", ".txt")
"""How files of a release end; ``.model`` is a tokenizer's vocabulary."""
_SMALL: Final = MAX_SPEC_BYTES
"""Nothing but the release's own files is larger: manifest and spec have this limit."""

OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Verified:
    """A release folder that passed every check, and what its ledger's head said.

    ``kinds``: what it was pulled for, none for all; ``num_files`` of the release's are there, and
    ``num_made`` that info.json calls derived.
    """

    release: TrustedRelease
    view: LedgerView
    num_bytes: int
    num_files: int = 0
    kinds: tuple[str, ...] = ()
    num_made: int = 0


def verify_folder(
    folder: Path,
    *,
    log: str | None = None,
    now_s: int | None = None,
    max_age_s: int | None = None,
    on_bytes: OnBytes = lambda *_: None,
) -> Verified:
    """Check every byte of ``folder``; with ``log`` also that it is that ledger's.

    Units: ``now_s`` Unix seconds, None for the clock's; ``max_age_s`` seconds, None for any age.

    Raises VerificationFailed: a check failed, and the text names it.
    """
    found = opened(folder, log, now_s=now_s, max_age_s=max_age_s)
    present, own = found.present, found.own
    with check("folder"):
        manifest = small_file(folder, MANIFEST)
    release = found.ledger.release(manifest)
    with check("ledger proof"):
        check_proof(small_file(folder, PROOF), found.view, release)
    info = _info(folder, release.manifest)
    with check("derived"):
        derived = () if info is None else derived_of(info, release.manifest)
    with check("choice"):
        kinds = read_choice(folder)
        files = chosen_files(release.manifest, kinds, derived)
        own |= {CHOICE} if kinds else set()
        made = entries_of(chosen_derived(derived, kinds))
        also = [e for e in entries_of(derived) if e not in made and e.name in present]
    known = Contributions(folder, release).known(present)
    entries = (*files, *made, *also, *known)
    with check("folder"):
        compare_names(present, own | {entry.name for entry in entries})
    total, done = sum(entry.bytes for entry in entries), 0
    for entry in entries:
        path = place(folder, entry.name)
        with check("file hash"):
            check_file(path, entry)
        with check("header"):
            check_header(path, entry.name)
        done += entry.bytes
        on_bytes(entry.name, done, total)
    return Verified(release, found.view, total, len(files), kinds, len(made) + len(also))


@dataclass(frozen=True, slots=True)
class Opened:
    """What a folder holds and what its trust/ proves, before its own files are looked at.

    ``own``: the names that the proof itself takes. ``present``: all names that are there.
    """

    present: set[str]
    view: LedgerView
    ledger: TrustedLedger
    own: set[str]


def opened(folder: Path, log: str | None, *, now_s: int | None, max_age_s: int | None) -> Opened:
    """Check what every folder is checked for first: names, log id, keyring, age, each leaf.

    Raises VerificationFailed: a check failed, and the text names it.
    """
    now_s = int(time.time()) if now_s is None else now_s
    with check("folder"):
        present = _files_of(folder)
    with check("log id"):
        pinned = _pinned_log(folder, log)
    view, ledger, own = read_trust(folder, pinned)
    with check("expiry"):
        view.federation.keyring.check_time(now_s)
        view.federation.keyring.check_time(view.head.t)
    with check("freeze"):
        view.head.check_age(now_s=now_s, most_s=max_age_s)
    return Opened(present, view, ledger, own)


def _info(folder: Path, manifest: ReleaseManifest) -> Path | None:
    """Return where info.json lies, after checking its hash: it says what else may be there.

    None: it is missing, which the comparison of names says.
    """
    entry = info_entry(manifest)
    path = place(folder, entry.name)
    if not path.is_file():
        return None
    with check("file hash"):
        check_file(path, entry)
    return path


def read_trust(folder: Path, log: str) -> tuple[LedgerView, TrustedLedger, set[str]]:
    """Return what ``folder``/trust proves of the ledger ``log``, and the names that it takes.

    Raises VerificationFailed: a check failed.
    """
    source = FolderSource(folder / TRUST)
    view = read_view(source, log)
    with check("ledger"):
        bodies = read_entries(source, view.head.size)
    ledger = trusted_ledger(view.federation, view.checkpoint, bodies, view.keyrings)
    with check("head"):
        ledger.check_head(view.head)
    names = {*view.files, *(tile.name for tile in entry_tiles(view.head.size))}
    return view, ledger, {MANIFEST, LOG, PROOF, *(f"{TRUST}/{name}" for name in names)}


def proof_of(folder: Path) -> bytes:
    """Return the proof that travels alone. Raises VerificationFailed."""
    return small_file(folder, PROOF)


def entry_tiles(size: int) -> list[Tile]:
    """Return the tiles that hold the first ``size`` leaves."""
    return [Tile(ENTRIES, at >> 8, min(256, size - at)) for at in range(0, size, 256)]


def check_proof(proof: bytes, view: LedgerView, release: TrustedRelease) -> None:
    """Check the proof that travels alone: of this leaf, under this very checkpoint."""
    federation = view.federation
    found = verify_receipt(proof, log=federation.log, ledger_key=federation.keyring.ledger)
    if (found.index, found.checkpoint) != (release.leaf, view.checkpoint):
        raise mismatch("the proof is of another leaf or checkpoint than this release's")
    if not proof.endswith(view.note):
        raise mismatch("the proof has another note than the checkpoint")


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
    """Check the header of a safetensors file, or a picture, before any program sees it.

    Text passes; what a program could run, such as a pickle beside or in the place of the tensors,
    does not, whoever signed it (T9). Raises VerificationFailed: our strict reader refuses it (T8).
    """
    if not name.endswith(_KNOWN):
        raise _wrong(
            f"{shown(name)} is of a kind that no release has", "programs may run such files"
        )
    if name.startswith(FOLDER):
        with path.open("rb") as file:
            check_picture(file.read(MOST_BYTES + 1))
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


def _pinned_log(folder: Path, log: str | None) -> str:
    """Return the log id in ``folder``; with ``log``, if it is that one."""
    text = small_file(folder, LOG).decode("ascii", errors="replace")
    pinned = text.removesuffix("\n")
    if not re.fullmatch("[0-9a-f]{64}", pinned) or text == pinned:
        raise _wrong(f"{LOG} is not one log id", "somebody changed it")
    if log not in (None, pinned):
        raise _wrong(f"log id {pinned} found, {log} given", "it is another ledger's release")
    return pinned


def _files_of(folder: Path) -> set[str]:
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
            raise _wrong(
                f"{shown(name)} is no plain file", "links and devices are not part of a release"
            )
    empty = folders - {
        parent.as_posix() for name in found for parent in PurePosixPath(name).parents
    }
    if empty:
        raise _wrong(f"{shown(min(empty))} is an empty folder", "the release has none")
    return found


def compare_names(present: set[str], wanted: set[str]) -> None:
    """Refuse a file too few or too many. Raises VerificationFailed."""
    if missing := sorted(wanted - present):
        raise _wrong(f"{missing[0]} is missing", "the pull was not finished, or it was removed")
    if extra := sorted(present - wanted):
        raise _wrong(f"{shown(extra[0])} is not part of the release", "somebody added it")


def small_file(folder: Path, name: str) -> bytes:
    """Return a file of at most a spec's 2 MiB. Raises VerificationFailed."""
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
