"""Makes the files that a release leaves out, and lets only those pass that info.json describes.

Law: a file has its place only with the length and SHA-256 that the signed info.json says; until
then it lies in the work folder, so a kill leaves nothing half. What is made with the base is asked
for the base first, before anything is fetched. Cost: one merge a kind, one tensor in memory.
"""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from ..core.base_files import BaseFiles
from ..core.derived_file import DerivedFile
from ..core.errors import InputError, VerificationFailed
from ..core.kinds import WHOLE
from ..core.release import FileEntry
from ..core.spec import FederationSpec
from .composer import Composer
from .contributions import Contributions
from .home import appear
from .open_part import open_shares
from .rebuild import check_base
from .trust import check
from .write_file import write_file

OnBytes = Callable[[str, int, int], None]
_MADE: Final = "made"


def usable_base(kinds: Collection[str], base: BaseFiles | None, spec: FederationSpec) -> None:
    """Refuse to make ``kinds`` without the base that they need, or with another one.

    Raises InputError.
    """
    needed = sorted(WHOLE.intersection(kinds))
    if not needed:
        return
    if base is None:
        raise InputError(
            f"--base is missing, and {' and '.join(needed)} is made here, with the base model",
            why=f"it is the one of fingerprint {spec.base.fingerprint}",
            fix=f"add --base and the folder of {spec.base.name}, revision {spec.base.revision}",
            code="option-missing",
        )
    check_base(base, spec)


def make_derived(  # what the files follow from, and where they go
    contributions: Contributions,
    missing: Collection[DerivedFile],
    *,
    prediction: str,
    base: BaseFiles | None,
    work: Path,
    on_bytes: OnBytes,
    arrived: Callable[[FileEntry, Path], None],
) -> None:
    """Make ``missing``; ``arrived`` gets each when it is right. ``prediction``: the base's.

    Raises VerificationFailed: the contributions give another file than the one described.
    """
    wanted = {file.name: file for file in missing}
    total, done = sum(file.bytes for file in missing), 0
    made, manifest = work / _MADE, contributions.release.manifest
    shutil.rmtree(made, ignore_errors=True)
    with check("contribution"), open_shares(contributions, manifest.contributions) as merge:
        composer = Composer(
            merge,
            manifest.n,
            prediction,
            contributions.withdrawn_slots(),
            base=base,
            kinds={file.kind for file in missing},
        )
        for file in composer.files():
            said = wanted.pop(file.name, None)
            if said is None:
                continue
            on_bytes(file.name, done, total)
            entry, _ = write_file(made, file)
            if (entry.bytes, entry.sha256) != (said.bytes, said.sha256):
                raise _other(f"{file.name} made here has SHA-256 {entry.sha256[:16]}...", said)
            appear(made / file.name, work / entry.sha256)
            arrived(entry, work / entry.sha256)
            done += said.bytes
    shutil.rmtree(made, ignore_errors=True)
    for said in wanted.values():
        raise _other(f"{said.name} follows from nothing", said)


def _other(what: str, said: DerivedFile) -> VerificationFailed:
    return VerificationFailed(
        f"{what}, info.json says {said.sha256[:16]}...",
        why="the release was signed over something else than what its contributions give",
        fix="do not use this release; keep the folder and tell the operator",
        code="not-rebuilt",
    )
