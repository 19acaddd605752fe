"""The private contributions of a release: fetched, opened with our key, checked before any merge.

    trust/contributions/<leaf>.proof          as of the public ones (contributions.py)
    sealed/<leaf>, wraps/<leaf>               as the coordinator keeps them
    plain/<leaf>                              what was opened, mode 0600

Laws: what the coordinator could not look at is looked at here, by the same rules: length, SHA-256
and the one legal header (T5), normal form (T7), the fingerprint of the slot's block (T11), the norm
of A against that of W (T12), the length of learned vectors; one that breaks a rule ends the merge
and is named. What was sealed for others is counted and left alone. Source: security.md 8 and 9.4.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ..core.base_files import BaseFiles
from ..core.basis_fingerprint import basis_fingerprint
from ..core.bounds import Bounds
from ..core.contribution import ContributionManifest
from ..core.errors import ContributionRejected, VerificationFailed
from ..core.merging import Part
from ..core.release import FileEntry
from ..core.sealed import lease_context
from ..core.sizes import long_vector, sizes_of
from ..core.spec import FederationSpec
from ..proto import methods, wire
from .channel import Channel
from .contributions import Contributions
from .download import Download
from .home import appear, write_whole
from .origin import Wanted, WireOrigin
from .sealing import check_wraps_of, open_private
from .trust import check
from .wraps import unwrap


@dataclass(frozen=True, slots=True)
class PrivateContributions:
    """Those of one trusted release, in a working folder, and the key that may open them."""

    contributions: Contributions
    private: X25519PrivateKey

    @property
    def folder(self) -> Path:
        """The working folder."""
        return self.contributions.folder

    @property
    def spec(self) -> FederationSpec:
        """The federation's spec."""
        return self.contributions.release.federation.spec

    @property
    def leaves(self) -> tuple[int, ...]:
        """The ledger leaves of all that the release leaves out because it is private."""
        left_out = self.contributions.release.manifest.left_out
        return tuple(leaf for leaf, why in left_out if why == "private")

    def fetch(self, channel: Channel) -> Iterator[tuple[int, ContributionManifest]]:
        """Fetch, open and keep what is ours; yield leaf and signed manifest of each.

        Raises VerificationFailed: the other side served something else than what was signed, or
        what is inside is not what its owner signed. Raises Refused: it was withdrawn meanwhile.
        """
        for leaf in self.leaves:
            reply = channel.call(
                methods.GET_CONTRIBUTION, wire.ContributionRequest(leaf), wire.ContributionReply
            )
            with check("contribution"):
                signed = self.contributions.document(leaf)
                manifest = ContributionManifest.from_document(signed)
            if not reply.wraps:
                continue  # withdrawn or rejected since the release: nobody is given it any more
            with check("contribution"):
                check_wraps_of(manifest, reply.wraps)
            if self._is_ours(manifest, reply.wraps):
                self._fetch(channel, leaf, manifest, reply.wraps)
                yield leaf, manifest

    def part(
        self,
        leaf: int,
        manifest: ContributionManifest,
        base: BaseFiles,
        *,
        lambda_1024: int,
        stack: ExitStack,
    ) -> Part:
        """Return an opened contribution as a part of a merge, every rule checked.

        It is the part that a public contribution of the same bytes would be.
        Raises ContributionRejected, VerificationFailed: it breaks a rule.
        """
        path = self._place("plain", leaf)
        fd = stack.enter_context(path.open("rb")).fileno()
        public = replace(
            manifest,
            form="public",
            blob=manifest.plain,
            bytes=path.stat().st_size,
            plain="",
            wraps="",
        )
        if public.basis != basis_fingerprint(self.spec, public.slot):  # T11
            raise _rejected(leaf, public.concept, "it was trained against another slot's block")
        part = Part.of(
            self.spec,
            public,
            leaf=leaf,
            lambda_1024=lambda_1024,
            read=lambda offset, length: os.pread(fd, length, offset),
        )
        _check_sizes(part, base)
        return part

    def _is_ours(self, manifest: ContributionManifest, wraps: bytes) -> bool:
        try:
            unwrap(wraps, self.private, context=lease_context(manifest))
        except VerificationFailed as error:
            if error.code != "not-for-you":
                raise
            return False
        return True

    def _fetch(
        self, channel: Channel, leaf: int, manifest: ContributionManifest, wraps: bytes
    ) -> None:
        sealed = self._place("sealed", leaf)
        sealed.parent.mkdir(parents=True, exist_ok=True)
        entry = FileEntry(f"sealed/{leaf}", manifest.bytes, manifest.blob, (manifest.blob,))
        download = Download([WireOrigin(channel)], sealed.parent, lambda *_: None)
        download.run([Wanted.blob(entry, leaf)], lambda _, part: appear(part, sealed))
        with check("contribution"):
            plain = open_private(manifest, sealed.read_bytes(), wraps, self.private)
        write_whole(self._place("plain", leaf), plain)

    def _place(self, kind: str, leaf: int) -> Path:
        return self.folder / kind / str(leaf)


def _check_sizes(part: Part, base: BaseFiles) -> None:
    """Read every tensor, and refuse what outweighs the base (T7, T12)."""
    bounds = Bounds()
    try:
        sizes = sizes_of(
            part.layout,
            part.read,
            norms=base.measures(part.layout.spec),
            norm_percent=bounds.norm_percent,
        )
    except ContributionRejected as error:
        raise _rejected(part.leaf, part.manifest.concept, error.what) from error
    if why := long_vector(sizes, bounds):
        raise _rejected(part.leaf, part.manifest.concept, why)


def _rejected(leaf: int, concept: str, what: str) -> ContributionRejected:
    return ContributionRejected(
        f"private contribution {leaf} ({concept}): {what}",
        why="one contribution may not outweigh the base model or write outside its slot",
        fix="leave it out by merging without the key, and tell its owner",
        code="private-rejected",
    )
