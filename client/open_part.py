"""Opens one fetched contribution of a release as a part of a merge, every rule checked."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ..core.basis_fingerprint import basis_fingerprint
from ..core.contribution import ContributionManifest
from ..core.errors import VerificationFailed
from ..core.merging import Merge, Part
from ..core.spec import FederationSpec
from .contributions import Contributions, blob_name
from .verify import place


def open_part(contributions: Contributions, leaf: int, lambda_1024: int, stack: ExitStack) -> Part:
    """Return the public contribution at ``leaf``, its blob open until ``stack`` is closed.

    Raises VerificationFailed: it is private, of another slot's block (T11), not its client's (T4),
    or its bytes are not those that were signed.
    """
    spec = contributions.release.federation.spec
    blob = place(contributions.folder, blob_name(leaf))
    fd = stack.enter_context(blob.open("rb")).fileno()
    part = Part.open(
        spec,
        contributions.document(leaf).to_bytes(),
        leaf=leaf,
        lambda_1024=lambda_1024,
        read=lambda offset, length: os.pread(fd, length, offset),
    )
    said = part.manifest
    if said.form != "public":
        raise _wrong(f"contribution {leaf} is private, and a release holds public ones only")
    if said.basis != basis_fingerprint(spec, _block(spec, leaf, said)):  # T11
        raise _wrong(
            f"contribution {leaf} was trained against another block than slot {said.block}'s"
        )
    return part


@contextmanager
def open_shares(contributions: Contributions, shares: Sequence[tuple[int, int]]) -> Iterator[Merge]:
    """Give the merge of ``shares``: (leaf, lambda in 1/1024)."""
    with ExitStack() as stack:
        parts = [open_part(contributions, leaf, share, stack) for leaf, share in shares]
        slots = {part.manifest.slot for part in parts}
        if len(slots) < len(parts):
            raise _wrong(f"{len(parts)} contributions in {len(slots)} slots")
        yield Merge.of(contributions.release.federation.spec, parts)


def _block(spec: FederationSpec, leaf: int, said: ContributionManifest) -> int:
    """Return the slot whose block it is of; a share names one of the spec's, a seat is beyond."""
    if said.block >= spec.capacity or (said.share is not None) != (said.slot >= spec.capacity):
        raise _wrong(f"contribution {leaf} is signed for a slot that the spec does not have")
    return said.block


def _wrong(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="the release was signed over something else than what its contributions give",
        fix="do not use this release; keep the folder and tell the operator",
        code="not-rebuilt",
    )
