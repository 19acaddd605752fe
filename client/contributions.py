"""What a release was made of, in its folder: the proof and the blob of each contribution.

    trust/contributions/<leaf>.proof          receipt of the ledger leaf, the signed manifest in it
    trust/contributions/<leaf>.safetensors    the blob, as its client sent it

Law: a proof counts when the log's ledger holds that leaf, and the client that it names signed the
manifest (T4); a blob when it has the length and the SHA-256 in there. Of contributions that were
withdrawn the release says slot and leaf, so their proofs are kept too; their blobs may be gone.
Source: security.md 4.5, 4.7; formats.md 9. Cost: one read of each.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..core.contribution import ContributionManifest
from ..core.document import Document, from_value
from ..core.errors import InputError, VerificationFailed
from ..core.receipt import verify_receipt
from ..core.release import FileEntry
from ..proto import methods, wire
from .fetch import Fetch
from .home import appear, told_when_full, write_whole
from .trust import check
from .trusted_ledger import TrustedRelease

if TYPE_CHECKING:  # verifying needs no network, so it does not load grpc
    from .channel import Channel

FOLDER: Final = "trust/contributions"
_FILE: Final = re.compile(rf"{FOLDER}/(0|[1-9][0-9]{{0,15}})\.(?:proof|safetensors)")
_PROOF_BYTES: Final = 48 << 10


def blob_name(leaf: int) -> str:
    """Return where the blob of the contribution at ``leaf`` lies in a pulled folder."""
    return f"{FOLDER}/{leaf}.safetensors"


def proof_name(leaf: int) -> str:
    """Return where its proof lies."""
    return f"{FOLDER}/{leaf}.proof"


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
        """Return the signed manifest of the contribution at ``leaf``, from its proof.

        Raises InputError: it is not in the folder. Raises VerificationFailed: it proves nothing.
        """
        path = self.folder / proof_name(leaf)
        if not path.is_file():
            raise _not_there(leaf)
        with path.open("rb") as file:
            return self.trusted(leaf, file.read(_PROOF_BYTES + 1))

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
            said = self.manifest(leaf)
            yield FileEntry(blob_name(leaf), said.bytes, said.blob, (said.blob,))

    def check_present(self) -> None:
        """Refuse a folder into which the contributions were not fetched.

        Raises InputError.
        """
        wanted = [(leaf, blob_name(leaf)) for leaf in self.leaves]
        wanted += [(leaf, proof_name(leaf)) for leaf in (*self.leaves, *self.withdrawn)]
        for leaf, name in wanted:
            if not (self.folder / name).is_file():
                raise _not_there(leaf)

    def known(self, present: set[str]) -> dict[str, FileEntry | None]:
        """Return those of the names ``present`` that belong here, blobs with what they have to be.

        Raises VerificationFailed: a proof that is none.
        """
        found: dict[str, FileEntry | None] = {}
        for name in sorted(present):
            match = _FILE.fullmatch(name)
            leaf = int(match[1]) if match else -1
            if match is None or leaf not in (*self.leaves, *self.withdrawn):
                continue
            with check("contribution"):
                said = self.manifest(leaf)
            blob = FileEntry(name, said.bytes, said.blob, (said.blob,))
            found[name] = blob if name == blob_name(leaf) else None
        return found

    def fetch_proofs(self, channel: "Channel") -> None:
        """Fetch the proofs that are missing or prove nothing.

        Raises VerificationFailed: the other side gave one that proves nothing.
        """
        for leaf in (*self.leaves, *self.withdrawn):
            try:
                self.document(leaf)
            except (InputError, VerificationFailed):
                request = wire.ContributionRequest(leaf)
                reply = channel.call(methods.GET_CONTRIBUTION, request, wire.ContributionReply)
                with check("contribution"):
                    self.trusted(leaf, reply.receipt)
                write_whole(self.folder / proof_name(leaf), reply.receipt)

    def fetch_blob(self, channel: "Channel", entry: FileEntry, part: Path) -> None:
        """Fetch one of ``entries`` through its part file.

        Raises Refused: it was withdrawn and is gone. Raises VerificationFailed: other bytes came.
        """
        fetch_contribution(channel, int(Path(entry.name).stem), entry, part)
        target = self.folder / entry.name
        with told_when_full(target, wanted=entry.bytes):
            target.parent.mkdir(parents=True, exist_ok=True)
            appear(part, target)

    def trusted(self, leaf: int, receipt: bytes) -> Document:
        """Return the signed manifest of the contribution at ``leaf``, if ``receipt`` proves it.

        Raises VerificationFailed: it is another leaf's, another ledger's, or not signed.
        """
        federation = self.release.federation
        proven = verify_receipt(receipt, log=federation.log, ledger_key=federation.keyring.ledger)
        if proven.index != leaf or proven.leaf.get("kind") != "contribution":
            raise _wrong(f"leaf {proven.index} was proven, asked for was contribution {leaf}")
        signed = from_value(proven.leaf["doc"], kind="contribution")
        said = ContributionManifest.from_document(signed)  # T4: the client's signature
        if (said.log, said.fed) != (federation.log, federation.spec.id):
            raise _wrong(f"contribution {leaf} names another log or federation")
        return signed


def fetch_contribution(channel: "Channel", leaf: int, entry: FileEntry, part: Path) -> None:
    """Fetch the blob of the contribution at ``leaf`` into its part file, which may be begun.

    Raises Refused: it is not given any more. Raises VerificationFailed: other bytes came.
    """

    def read(offset: int, length: int) -> wire.ReadReply:
        request = wire.ReadContributionRequest(leaf, offset, length)
        return channel.call(methods.READ_CONTRIBUTION, request, wire.ReadReply)

    of = f"contribution {leaf}"
    Fetch(entry, part, read, lambda _: None, of=of, chunk_bytes=entry.bytes).run()


def _not_there(leaf: int) -> InputError:
    return InputError(
        f"contribution {leaf} is not in the folder",
        why="a release is derived from its contributions, and pull fetches them only when asked",
        fix="run orthofed pull LINK -o FOLDER --contributions, with the link of the federation",
        code="no-contributions",
    )


def _wrong(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="a contribution is bound to its leaf, its ledger and its federation",
        fix="fetch the contributions again; if that does not help, tell the operator",
        code="mismatch",
    )
