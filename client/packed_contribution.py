"""The two files that will be sent: a contribution's blob and its signed manifest.

    home/runs/<concept>/    blob, manifest (state.py names them)

Law (reliability.md 5): they are written once, and every later use reads them back from the disk and
compares them with the hashes that the session keeps; what was shown is what is sent. Left to
others: quantising (packing.py), the owner's yes (egress.py), sending (upload.py).
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core import document
from ..core.basis_fingerprint import basis_fingerprint
from ..core.contribution import ContributionManifest
from ..core.errors import InputError
from ..core.keys import SigningKey
from ..core.layout import ContributionLayout, pack, unpack
from ..core.names import check_title
from ..core.quantise import Quantised
from ..core.spec import FederationSpec
from . import session as flow
from .egress import EgressList, egress_list
from .home import write_whole
from .session import Session
from .state import BLOB, MANIFEST


@dataclass(frozen=True, slots=True)
class PackedContribution:
    """The packed files in the folder of one concept, for one federation."""

    folder: Path
    spec: FederationSpec
    log: str

    @property
    def blob(self) -> Path:
        """The file that is uploaded."""
        return self.folder / BLOB

    def layout(self, session: Session) -> ContributionLayout:
        """Return where each tensor lies. Raises InputError: too many triggers or vectors."""
        return ContributionLayout(self.spec, session.vectors)

    def write(
        self,
        session: Session,
        tensors: Mapping[str, Quantised],
        key: SigningKey,
        *,
        title: str | None,
        licence: str,
    ) -> flow.Packed:
        """Write the blob, sign the manifest over it, and return the hashes of both."""
        blob = pack(self.layout(session), tensors)
        manifest = ContributionManifest(
            basis=basis_fingerprint(self.spec, session.slot),
            blob=sha256(blob),
            bytes=len(blob),
            client=key.public_hex,
            concept=session.concept,
            fed=self.spec.id,
            fence=session.fence,
            form="public",
            licence=licence,
            log=self.log,
            slot=session.slot,
            t=int(time.time()),
            title=check_title(title) if title is not None else "",
            triggers=session.triggers,
        )
        signed = document.sign("contribution", manifest.body(), [key]).to_bytes()
        write_whole(self.blob, blob)
        write_whole(self.folder / MANIFEST, signed)
        return flow.Packed(sha256(blob), sha256(signed))

    def read(self, session: Session) -> tuple[bytes, bytes]:
        """Return manifest and blob as they lie on the disk, still what was packed.

        Raises InputError: one of them has changed.
        """
        manifest = (self.folder / MANIFEST).read_bytes()
        blob = self.blob.read_bytes()
        if (sha256(blob), sha256(manifest)) != (session.blob, session.document):
            raise InputError(
                f"the packed files of {session.concept} are not those that were packed",
                why="something changed them on the disk",
                fix=f"restore {self.folder}, or move it away and train again",
                code="packed-changed",
            )
        return manifest, blob

    def tensors(self, session: Session) -> dict[str, Quantised]:
        """Return the integers that will be sent, by name."""
        return unpack(self.layout(session), self.read(session)[1])

    def listing(self, session: Session) -> EgressList:
        """Return the list of all that would leave."""
        manifest, blob = self.read(session)
        return egress_list(manifest, blob, layout=self.layout(session), triggers=session.triggers)


def sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hex, as a session keeps it."""
    return hashlib.sha256(data).hexdigest()
