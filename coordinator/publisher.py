"""Builds the folder of one planned release, whole or not at all.

Laws (reliability.md 2.5): everything that varies is in the plan, so a second build gives the same
bytes, sample pictures apart (docs/adr/0027); files are written into ``.<n>.tmp``, synced, signed,
and the folder is renamed to ``<n>``. A folder that is there already is kept if it is what its
manifest and the plan say, else built again, so a kill at any instruction needs no repair but
another run. Streams layer by layer; what a concept alone decides is carried over from the release
before (carried.py). Not here: the ledger leaf (release_planning.py), which alone makes a folder a
release.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from ..core.basis_fingerprint import basis_fingerprint
from ..core.card import card_text
from ..core.derived_file import DerivedFile
from ..core.described import info_bytes
from ..core.document import parse, sign
from ..core.errors import InputError, OrthoFedError
from ..core.full_file import full_files
from ..core.keys import SigningKey
from ..core.kinds import KINDS, release_files
from ..core.lorafile import FileOrigin
from ..core.merging import Merge
from ..core.release import FileEntry, ReleaseManifest, check_release_name
from ..core.sample_picture import FOLDER
from ..core.spec import FederationSpec
from .base import BaseFolder
from .blobs import sha256_of
from .carried import Carried
from .fileentry import file_entry
from .folder import DataFolder
from .fs import Fs
from .merging import open_merge
from .picturing import Draw
from .publications import Plan
from .release_planning import check_plan
from .writing import Written, derive_files, write_checkpoint, write_files

Progress = Callable[[str], None]
_MANIFEST = "manifest.json"


def build(  # what a release is made of
    folder: DataFolder,
    spec: FederationSpec,
    plan: Plan,
    key: SigningKey,
    *,
    base: BaseFolder,
    fs: Fs,
    say: Progress,
    draw: Draw | None = None,
) -> Path:
    """Return the folder of release ``plan.n``, built and signed, or found so.

    ``draw``: what gives its sample pictures; None: it has none.
    """
    target = folder.releases / str(plan.n)
    if target.exists():
        if _is_built(target, plan, key.public_hex):
            return target
        shutil.rmtree(target)
    say("checking the base model")
    _check_base(base, spec)
    building = folder.releases / f".{plan.n}.tmp"
    if building.exists():
        shutil.rmtree(building)
    fs.make_folder(building)
    try:
        _build(building, folder, spec, plan, key, base=base, fs=fs, say=say, draw=draw)
        fs.rename(building, target)
    except OrthoFedError:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return target


def _build(  # noqa: PLR0913  # as above
    out: Path,
    folder: DataFolder,
    spec: FederationSpec,
    plan: Plan,
    key: SigningKey,
    *,
    base: BaseFolder,
    fs: Fs,
    say: Progress,
    draw: Draw | None,
) -> None:
    basis = basis_fingerprint(spec, 0)
    with open_merge(spec, plan.included, folder) as merge:
        carried = Carried.of(folder.releases / str(plan.n - 1), plan.prev)
        origin = FileOrigin(spec, basis, base.prediction)
        written = _write_files(out, merge, origin, base, plan, carried, fs, say)
        derived = _derive(out, merge, origin, base, plan, say)
        say("hashing")
        known = {file.name: file.entry for file in written}
        made = [file.made for file in written if file.made is not None]
        files = [known.get(name) or file_entry(out, name) for name in _names(out)]
        left = plan.withdrawn
        info = info_bytes(merge, plan.n, made, files, basis=basis, withdrawn=left, derived=derived)
        files.append(_add(out, "info.json", info, fs))
        shown = [part.manifest.concept for part in merge.parts if part.manifest.pictures]
        if draw is not None and shown:  # of the others no picture is made at all
            say(f"drawing sample pictures of {len(shown)} of {len(merge.parts)} concepts")
            fs.make_folder(out / FOLDER)
            files += [_add(out, *each, fs) for each in draw(out, shown).items()]
        card = card_text(merge, origin, plan.n, made, files, withdrawn=left)
        files.append(_add(out, "card.md", card.encode(), fs))
    manifest = ReleaseManifest(
        contributions=tuple((item.leaf, item.lambda_1024) for item in plan.included),
        fed=plan.fed,
        files=tuple(sorted(files, key=lambda file: file.name)),
        left_out=plan.left_out,
        log=plan.log,
        n=plan.n,
        prev=plan.prev,
        size=plan.size,
        t=plan.t,
    )
    ReleaseManifest.from_body(manifest.body())  # what a reader will ask of it
    fs.write_whole(out / _MANIFEST, sign("release", manifest.body(), (key,)).to_bytes())
    for path in sorted(out.rglob("*")):
        if path.is_dir():
            fs.sync_folder(path)
    fs.sync_folder(out)


def _write_files(  # as above
    out: Path,
    merge: Merge,
    origin: FileOrigin,
    base: BaseFolder,
    plan: Plan,
    carried: Carried,
    fs: Fs,
    say: Progress,
) -> list[Written]:
    if not merge.parts:
        return []  # sealed ones alone, or the last one was withdrawn
    kinds = KINDS.keys() - set(plan.derived)
    say("writing LoRA files")
    files = release_files(merge, origin, None, n=plan.n, kinds=kinds)
    written = list(write_files(out, files, carried=carried, fs=fs))
    if "checkpoint" in kinds:
        say("writing the checkpoint")
        written += write_checkpoint(out, base, merge, carried=carried, fs=fs)
    if "full" in kinds:
        say("writing the full file")
        full = full_files(base, merge, origin, n=plan.n, merged=_merged(out, plan))
        written += write_files(out, full, carried=carried, fs=fs)
    return written


def _derive(  # as above
    out: Path, merge: Merge, origin: FileOrigin, base: BaseFolder, plan: Plan, say: Progress
) -> list[DerivedFile]:
    """Return what the files are that the plan does not publish."""
    if not plan.derived or not merge.parts:
        return []
    say(f"deriving {', '.join(plan.derived)}")
    merged = _merged(out, plan)
    return derive_files(base, merge, origin, n=plan.n, kinds=plan.derived, merged=merged)


def _merged(out: Path, plan: Plan) -> BaseFolder | None:
    """Return the checkpoint that was just written, so that its weights are not computed again."""
    return None if "checkpoint" in plan.derived else BaseFolder(out / "checkpoint")


def _add(out: Path, name: str, data: bytes, fs: Fs) -> FileEntry:
    """Write one whole small file and return its entry."""
    fs.write_whole(out / name, data)
    return file_entry(out, name)


def _check_base(base: BaseFolder, spec: FederationSpec) -> None:
    found = base.fingerprint()
    if found != spec.base.fingerprint:
        raise InputError(
            f"the base model at {base.root} has fingerprint {found[:16]}",
            why=f"this federation adapts {spec.base.fingerprint[:16]}",
            fix="restore that folder, or correct `base` in coordinator.toml",
            code="not-the-base",
        )


def _names(out: Path) -> list[str]:
    """Return the relative names of the files of a release, each fit for every system (T10)."""
    paths = (path for path in out.rglob("*") if path.is_file())
    names = sorted(path.relative_to(out).as_posix() for path in paths)
    for name in names:
        check_release_name(name)
    return names


def _is_built(target: Path, plan: Plan, release_key: str) -> bool:
    """Return whether the folder is what its manifest and the plan say, file by file."""
    try:
        signed = parse((target / _MANIFEST).read_bytes(), kind="release")
        signed.verify((release_key,))
        manifest = ReleaseManifest.from_document(signed)
        check_plan(manifest, plan)
        if {file.name for file in manifest.files} != set(_names(target)) - {_MANIFEST}:
            return False
        return all(sha256_of(target / file.name) == file.sha256 for file in manifest.files)
    except (OSError, OrthoFedError):
        return False
