"""Decides without a network whether a composed folder is what its contributions give.

    1  plain files only; log id, spec, keyring, checkpoint, head, expiry, ledger   verify.py
    2  the release that it is taken from: its signature, proof, completeness       trusted_ledger.py
    3  composition.json: leaves of that release, weights
    4  each blob: its client's signature, its SHA-256, its slot's block            open_part.py
    5  every byte of every file, as it is made                                     compared.py

Law: nobody signed a composition, so it is derived anew: exit code 0 only where each byte follows
from what the ledger's contributors signed and the weights in composition.json, and no file is more
or less. Cost: one merge of the LoRA files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.base_files import BaseFiles
from ..core.kinds import WHOLE
from ..core.release import FileEntry
from ..core.release_file import MadeFile, TensorFile
from .choice import kinds_for
from .compared import compare_plain, compare_tensors
from .composer import Composer
from .composition import (
    COMPOSED,
    COMPOSITION,
    LIKE,
    MANIFEST_OF,
    Composition,
    prediction_of,
)
from .contributions import Contributions, blob_name
from .ledger_view import LedgerView
from .make_derived import usable_base
from .open_part import open_shares
from .trust import check, mismatch
from .trusted_ledger import TrustedRelease
from .verify import (
    MANIFEST,
    check_file,
    check_header,
    check_proof,
    compare_names,
    opened,
    place,
    proof_of,
    small_file,
)
from .write_file import entry_of

OnBytes = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class VerifiedComposition:
    """A composed folder that passed every check."""

    release: TrustedRelease
    view: LedgerView
    weights: dict[str, int]
    num_files: int
    num_bytes: int


def is_composed(folder: Path) -> bool:
    """Return whether a folder says that it was composed."""
    return (folder / COMPOSITION).is_file() and not (folder / MANIFEST).exists()


def verify_composed(
    folder: Path,
    *,
    log: str | None = None,
    now_s: int | None = None,
    max_age_s: int | None = None,
    base: BaseFiles | None = None,
    on_bytes: OnBytes = lambda *_: None,
) -> VerifiedComposition:
    """Derive every byte of ``folder`` anew; options as verify_folder's; ``base``: for whole models.

    Raises VerificationFailed: a check failed, and the text names it. Raises InputError: the folder
    holds a whole model, and ``base`` is missing or another one.
    """
    found = opened(folder, log, now_s=now_s, max_age_s=max_age_s)
    present = found.present
    release = found.ledger.release(small_file(folder, MANIFEST_OF))
    with check("ledger proof"):
        check_proof(proof_of(folder), found.view, release)
    manifest = release.manifest
    with check("composition"):
        made_of = Composition.from_bytes(small_file(folder, COMPOSITION))
        made_of.check_taken_from(manifest)
        like = [entry for entry in manifest.files if entry.name == made_of.like]
        if not like:
            raise mismatch(f"{COMPOSITION} names a file that the release does not have")
        check_file(place(folder, LIKE), like[0])
        check_header(place(folder, LIKE), LIKE)
    kinds = kinds_for(made_of.programs, default=COMPOSED)
    usable_base(kinds, base, release.federation.spec)
    contributions = Contributions(folder, release)
    own = (found.own - {MANIFEST}) | {MANIFEST_OF, COMPOSITION, LIKE}
    own |= {blob_name(leaf) for leaf, _ in made_of.shares}
    if missing := sorted(own - present):
        with check("folder"):
            compare_names(present, {missing[0]} | present)
    with check("contribution"), open_shares(contributions, made_of.shares) as merge:
        composer = Composer(
            merge,
            manifest.n,
            prediction_of(folder / LIKE),
            contributions.withdrawn_slots(),
            mixed=made_of.is_mixed(manifest),
            base=base if kinds & WHOLE else None,
            kinds=kinds,
        )
        with check("composition"):
            entries = _compare(folder, composer, present, own, on_bytes)
        weights = {part.manifest.concept: part.lambda_1024 for part in merge.parts}
    total = sum(entry.bytes for entry in entries)
    return VerifiedComposition(release, found.view, weights, len(entries), total)


def _compare(
    folder: Path, composer: Composer, present: set[str], own: set[str], on_bytes: OnBytes
) -> list[FileEntry]:
    files = list(composer.files())
    compare_names(present, own | {file.name for file in files} | {"info.json", "card.md"})
    made, entries = list[MadeFile](), list[FileEntry]()
    for done, file in enumerate(files):
        on_bytes(file.name, done, len(files))
        path = place(folder, file.name)
        if isinstance(file, TensorFile):
            made.append(compare_tensors(path, file))
        else:
            compare_plain(path, file)
        entries.append(entry_of(path, file.name))
    for text in composer.texts(made, entries):
        compare_plain(place(folder, text.name), text)
        entries.append(entry_of(place(folder, text.name), text.name))
    return entries
