"""What a release was made of: each contribution's signed manifest, and its blob in the folder.

    trust/tile/entries/...                    the ledger's leaves, the signed manifests in them
    trust/contributions/<leaf>.safetensors    the blob, as its client sent it

Law: a manifest counts when the ledger holds it at that leaf (trusted_ledger.py) and the client that
it names signed it (T4); a blob when it has the length and the SHA-256 in there. Blobs of what was
withdrawn may be gone; the leaves never are. Source: security.md 4.5, 4.6. Cost: one read of each.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..core.contribution import ContributionManifest
from ..core.document import Document
from ..core.errors import InputError, VerificationFailed
from ..core.release import FileEntry
from .origin import Wanted
from .trust import check
from .trusted_ledger import TrustedRelease

FOLDER: Final = "trust/contributions"
_FILE: Final = re.compile(rf"{FOLDER}/(0|[1-9][0-9]{{0,15}})\.safetensors")


def blob_name(leaf: int) -> str:
    """Return where the blob of the contribution at ``leaf`` lies in a pulled folder."""
    return f"{FOLDER}/{leaf}.safetensors"


@dataclass(frozen=True, slots=True)
class Contributions:
    """The contributions of one trusted release, in its ``folder``."""

    folder: Path
    release: TrustedRelease

    @property
    def leaves(self) -> tuple[int, ...]:
        """The ledger leaves of what the release holds."""
        return tuple(leaf for leaf, _ in self.release.manifest.contributions)

    @property
    def withdrawn(self) -> tuple[int, ...]:
        """The ledger leaves of what was withdrawn before it."""
        left_out = self.release.manifest.left_out
        return tuple(leaf for leaf, why in left_out if why == "withdrawn")

    def document(self, leaf: int) -> Document:
        """Return the signed manifest of the contribution at ``leaf``, its signature checked.

        Raises VerificationFailed: its client did not sign it, or it is of another federation.
        """
        federation, signed = self.release.federation, self.release.contributions[leaf]
        said = ContributionManifest.from_document(signed)  # T4: the client's signature
        if (said.log, said.fed) != (federation.log, federation.spec.id):
            raise VerificationFailed(
                f"contribution {leaf} names another log or federation",
                why="a contribution is bound to its leaf, its ledger and its federation",
                fix="do not use this release; tell the operator",
                code="mismatch",
            )
        return signed

    def manifest(self, leaf: int) -> ContributionManifest:
        """Return what that manifest says; raises as ``document``."""
        return ContributionManifest.from_document(self.document(leaf))

    def withdrawn_slots(self) -> tuple[tuple[int, int], ...]:
        """Return slot and leaf of each contribution that was withdrawn, ascending by leaf.

        Raises as ``document``.
        """
        return tuple((self.manifest(leaf).slot, leaf) for leaf in self.withdrawn)

    def entries(self) -> Iterator[FileEntry]:
        """Give the blob of each contribution as a file to be fetched or checked."""
        for leaf in self.leaves:
            yield self._entry(leaf)

    def check_present(self) -> None:
        """Refuse a folder into which the contributions were not fetched.

        Raises InputError.
        """
        for leaf in self.leaves:
            if not (self.folder / blob_name(leaf)).is_file():
                raise _not_there(leaf)

    def check_signatures(self) -> int:
        """Check the client's signature of every contribution that the ledger had, and count them.

        Those that the release leaves out too (T4). Raises as ``document``.
        """
        with check("contribution"):
            for leaf in self.release.contributions:
                self.document(leaf)
        return len(self.release.contributions)

    def known(self, present: set[str]) -> tuple[FileEntry, ...]:
        """Return those of the names ``present`` that are blobs of this release, to be checked.

        Raises VerificationFailed: a manifest is not its client's.
        """
        leaves = {int(match[1]) for name in present if (match := _FILE.fullmatch(name))}
        with check("contribution"):
            return tuple(self._entry(leaf) for leaf in sorted(leaves & set(self.leaves)))

    def wanted(self) -> Iterator[Wanted]:
        """Give the blob of each contribution as a file to be fetched."""
        for leaf in self.leaves:
            yield Wanted.blob(self._entry(leaf), leaf)

    def _entry(self, leaf: int) -> FileEntry:
        said = self.manifest(leaf)
        return FileEntry(blob_name(leaf), said.bytes, said.blob, (said.blob,))


def _not_there(leaf: int) -> InputError:
    return InputError(
        f"contribution {leaf} is not in the folder",
        why="a release is derived from its contributions, and pull fetches them only when asked",
        fix="run orthofed pull LINK -o FOLDER --contributions, with the link of the federation",
        code="no-contributions",
    )
