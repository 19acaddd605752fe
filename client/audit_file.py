"""Audits one file against a verified release: reads both, and leaves the judging to audit.py.

The slots and their owners are those of the release's ``info.json``, whose hash is signed, and what
each client signed in the ledger has to say the same (T4, T25). A checkpoint's base is the spec's,
or nothing is said; a base in one file has no fingerprint, so its SHA-256 is told, and one that has
little in common with the checkpoint is refused. Cost: one read of the files, one tensor in memory.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..core import canonical
from ..core.errors import InputError, VerificationFailed
from ..core.merging import Part
from ..core.single_file import UNET
from ..core.spec import FederationSpec
from .adapter_file import AdapterFile
from .audit import Audit, Findings, Leased
from .base_folder import BaseFolder
from .changed_checkpoint import ChangedCheckpoint, Model, Others
from .contributions import Contributions, blob_name
from .rebuild import check_base
from .single_checkpoint import SingleCheckpoint
from .trust import check
from .verify import place

_INFO = "info.json"
_MOST_FOREIGN = 0.5
"""Of the UNet's other tensors, beside a base that no fingerprint vouches for."""
OnLayer = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Audited:
    """What was audited and what was found.

    ``base_sha256``: of a base in one file, which was taken as given; empty for any other.
    ``unread``: tensors of a checkpoint in one file that its base's folder has nothing for.
    """

    kind: str
    dtypes: tuple[str, ...]
    findings: Findings
    base_sha256: str = ""
    unread: tuple[str, ...] = ()


def audit_file(
    file: Path, made_of: Contributions, *, base: Path | None, on_layer: OnLayer = lambda *_: None
) -> Audited:
    """Take ``file`` apart by the slots of a verified release.

    Raises InputError: it is neither a LoRA of this base model nor a checkpoint, or a checkpoint
    without its base or beside another. Raises VerificationFailed: the release contradicts itself.
    """
    spec = made_of.release.federation.spec
    opened = _opened(file, spec, base)
    made_of.check_signatures()
    leased = leased_slots(made_of)
    with ExitStack() as stack:
        parts = {each.slot: _part(made_of, each, stack) for each in _at_hand(made_of, leased)}
        audit = Audit(spec, leased, parts)
        for number, layer in enumerate(spec.layers):
            on_layer(layer.path, number, len(spec.layers))
            audit.add(layer, opened.change(layer))
        on_layer("", len(spec.layers), len(spec.layers))
        if isinstance(opened, AdapterFile):
            audit.add_foreign(opened.foreign_changes())
            audit.add_strange(opened.strange)
            return Audited("lora", opened.dtypes, audit.findings())
        others = opened.others()
        changes = list(others.changes())
        given = opened.base.sha256 if isinstance(opened.base, SingleCheckpoint) else ""
        if given:
            _check_alike(others, changes)
        audit.add_foreign(changes)
        audit.add_strange(f"{name} is missing" for name in others.missing())
    return Audited("checkpoint", opened.dtypes, audit.findings(), given, others.unread)


def leased_slots(made_of: Contributions) -> tuple[Leased, ...]:
    """Return the slots of the release, ascending.

    Raises VerificationFailed: ``info.json`` is not what spec, manifest and contributions say.
    """
    lambdas = dict(made_of.release.manifest.contributions)
    with check("release"):
        path = place(made_of.folder, _INFO)
        concepts = cast("dict[str, Any]", canonical.decode(path.read_bytes()))["concepts"]
        found = tuple(
            sorted(
                (
                    Leased(
                        *(each["slot"], each["leaf"], each["concept"], each["client"]),
                        each["lambda"],
                        tuple((o["leaf"], o["lambda"]) for o in each.get("owners", (each,))),
                    )
                    for each in concepts
                ),
                key=lambda each: each.slot,
            )
        )
        if dict(part for each in found for part in each.parts) != lambdas:
            raise _contradiction("its manifest lists other contributions or weights")
        for each in found:
            said = [made_of.manifest(leaf) for leaf, _ in each.parts]
            if any((s.block, s.concept) != (each.slot, each.concept) for s in said) or (
                said[0].client != each.client
            ):
                raise _contradiction(f"contribution {each.leaf} is signed for another slot or name")
    return found


def _opened(file: Path, spec: FederationSpec, base: Path | None) -> AdapterFile | ChangedCheckpoint:
    if not file.exists():
        raise _unreadable(f"{file} does not exist", "there is nothing to audit")
    if file.is_file() and not SingleCheckpoint.is_one(file):
        return AdapterFile.open(file, spec)
    if base is None:
        raise InputError(
            "--base is missing",
            why="a checkpoint's change is what it has more than its base model",
            fix="run the same command with --base and the base's folder, or its file",
            code="option-missing",
        )
    origin = _model(base)
    if isinstance(origin, BaseFolder):
        check_base(origin, spec)
    return ChangedCheckpoint(spec, origin, _model(file))


def _model(path: Path) -> Model:
    """Open a folder or a file; raises InputError when it is no model."""
    if not path.is_file():
        return BaseFolder(path)
    if not SingleCheckpoint.is_one(path):
        raise _unreadable(f"{path} is no checkpoint", "it holds no UNet under its original names")
    return SingleCheckpoint(path)


def _check_alike(others: Others, changes: list[tuple[str, float]]) -> None:
    """Refuse two files of which one is hardly a version of the other.

    A merge leaves every tensor that is not adapted as it was. Raises InputError.
    """
    common = set(others.compared)
    unet = [name for name in common if name.startswith(("unet/", UNET))]
    changed = [name for name, _ in changes if name in set(unet)]
    if len(changed) > _MOST_FOREIGN * len(unet):
        raise InputError(
            f"{len(changed)} of the {len(unet)} other tensors of the UNet are not the base's",
            why="the file given as --base is another model than this one was made from, or the"
            " checkpoint was trained as a whole and is nobody's merge",
            fix="give --base the file of the federation's base, or better its folder, which is"
            " checked by its fingerprint",
            code="wrong-base",
        )


def _at_hand(made_of: Contributions, leased: tuple[Leased, ...]) -> list[Leased]:
    return [
        each
        for each in leased
        if all((made_of.folder / blob_name(leaf)).is_file() for leaf, _ in each.parts)
    ]


def _part(made_of: Contributions, leased: Leased, stack: ExitStack) -> Part:
    """Return the concept of a slot; of several owners their parts as one."""
    found: list[Part] = []
    for leaf, lambda_1024 in leased.parts:
        fd = stack.enter_context(place(made_of.folder, blob_name(leaf)).open("rb")).fileno()
        part = Part.open(
            made_of.release.federation.spec,
            made_of.document(leaf).to_bytes(),
            leaf=leaf,
            lambda_1024=lambda_1024,
            read=lambda offset, length, fd=fd: os.pread(fd, length, offset),
        )
        found.append(part)
    return Part.together(found)


def _contradiction(what: str) -> VerificationFailed:
    return VerificationFailed(
        f"{_INFO} of the release contradicts what is signed: {what}",
        why="it is derived from them, so somebody changed it before it was signed",
        fix="run orthofed verify FOLDER --rebuild --base BASE, and tell the operator",
        code="release-contradicts",
    )


def _unreadable(what: str, why: str) -> InputError:
    return InputError(
        what,
        why=why,
        fix="give a LoRA's or a checkpoint's .safetensors file, or a diffusers pipeline folder",
        code="bad-adapter",
    )
