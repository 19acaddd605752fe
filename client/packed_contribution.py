"""The files that will be sent: a contribution's blob, its signed manifest, wraps if it is private.

    home/runs/<concept>/    blob, manifest (state.py names them)
                            sealed, wraps: what leaves in the blob's place; recipients: who opens it

Law (reliability.md 5): they are written once, and every later use reads them back from the disk and
compares them with the hashes that the session keeps; what was shown is what is sent. Left to
others: quantising (packing.py), the owner's yes (egress.py), sending (upload.py).
"""

import hashlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..core import canonical, document
from ..core.basis_fingerprint import basis_fingerprint
from ..core.contribution import ContributionManifest, Replaced
from ..core.dp_claim import DpClaim
from ..core.errors import InputError
from ..core.keys import SigningKey
from ..core.layout import ContributionLayout, pack, unpack
from ..core.names import check_title
from ..core.quantise import Quantised
from ..core.recipient import Recipient
from ..core.sealed import lease_context
from ..core.spec import FederationSpec
from . import session as flow
from .egress import EgressList, egress_list
from .home import write_whole
from .sealing import Sealed, seal_for
from .session import Session
from .share_text import ShareText
from .state import BLOB, MANIFEST, RECIPIENTS, SEALED, WRAPS


@dataclass(frozen=True, slots=True)
class PackedContribution:
    """The packed files in the folder of one concept, for one federation."""

    folder: Path
    spec: FederationSpec
    log: str

    @property
    def sent_blob(self) -> Path:
        """The file that is uploaded: the ciphertext where there is one."""
        return self.folder / (SEALED if self.recipients else BLOB)

    @property
    def wraps(self) -> bytes:
        """What is sent with a private contribution, empty for a public one."""
        return (self.folder / WRAPS).read_bytes() if self.recipients else b""

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        """Who can open what is packed; nobody is named for a public contribution."""
        return recipients_in(self.folder)

    def layout(self, session: Session) -> ContributionLayout:
        """Return where each tensor lies. Raises InputError: too many triggers or vectors."""
        return ContributionLayout(self.spec, session.vectors)

    def write(  # noqa: PLR0913  # what a manifest says
        self,
        session: Session,
        tensors: Mapping[str, Quantised],
        key: SigningKey,
        *,
        title: str | None,
        licence: str,
        pictures: bool = False,
        private_to: Collection[Recipient] = (),
        dp: DpClaim | None = None,
        earlier: SigningKey | None = None,
        images: int = 0,
    ) -> flow.Packed:
        """Write the blob, sign the manifest over it, and return the hashes of both.

        With ``private_to`` what is signed and sent is the blob sealed for these consumers.
        ``earlier``: after a corrective round, the client key of what it replaces. ``images``: of
        how many it was made, where several owners may teach the concept; 0: that is not said.

        Raises VerificationFailed: the manifest would break a rule; nothing is written then.
        """
        joined = ShareText.from_text(session.share) if session.share else None
        blob = pack(self.layout(session), tensors)
        manifest = ContributionManifest(
            basis=basis_fingerprint(self.spec, session.block),
            blob=sha256(blob),
            bytes=len(blob),
            client=key.public_hex,
            concept=session.concept,
            fed=self.spec.id,
            fence=session.fence,
            licence=licence,
            log=self.log,
            slot=session.slot,
            t=int(time.time()),
            title=check_title(title) if title is not None else "",
            triggers=session.triggers,
            dp=dp,
            pictures=pictures,
            replaces=None if earlier is None else Replaced(session.replaces, earlier.public_hex),
            count=images if joined is None else min(images, joined.share.most),
            share=None if joined is None else joined.share,
        )
        sealed = seal_for(private_to, blob, context=lease_context(manifest)) if private_to else None
        if sealed is not None:
            manifest = _private(manifest, sealed)
        ContributionManifest.from_body(manifest.body())  # or no later command could read it
        if sealed is not None:
            write_whole(self.folder / SEALED, sealed.blob)
            write_whole(self.folder / WRAPS, sealed.wraps)
        signers = [key] if earlier is None else [key, earlier]
        if joined is not None and earlier is None:
            signers.append(joined.secret)
        signed = document.sign("contribution", manifest.body(), signers).to_bytes()
        write_whole(self.folder / BLOB, blob)
        write_whole(self.folder / MANIFEST, signed)
        named = "".join(f"{each.to_text()}\n" for each in sorted(set(private_to)))
        write_whole(self.folder / RECIPIENTS, named.encode())
        return flow.Packed(sha256(blob), sha256(signed))

    def read(self, session: Session) -> tuple[bytes, bytes]:
        """Return manifest and blob as they lie on the disk, still what was packed.

        Raises InputError: one of them has changed.
        """
        manifest = (self.folder / MANIFEST).read_bytes()
        blob = (self.folder / BLOB).read_bytes()
        same = (sha256(blob), sha256(manifest)) == (session.blob, session.document)
        if not same or not self._sent_as_signed(manifest):
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
        signed = document.parse(manifest, kind="contribution")
        said = ContributionManifest.from_document(signed)
        listed = egress_list(
            manifest,
            blob,
            layout=self.layout(session),
            triggers=session.triggers,
            sealed=Sealed(self.sent_blob.read_bytes(), self.wraps) if self.recipients else None,
            recipients=self.recipients,
            dp=said.dp,
            images=said.count,
        )
        return replace(
            listed,
            licence=said.licence,
            title=said.title,
            pictures=said.pictures,
            folder=str(self.folder),
        )

    def _sent_as_signed(self, manifest: bytes) -> bool:
        """Return whether the files that would be sent are those of the manifest."""
        signed = document.from_value(canonical.decode(manifest), kind="contribution")
        said = ContributionManifest.from_body(signed.body)
        if said.form == "public":
            return not self.recipients
        sent = self.folder / SEALED, self.folder / WRAPS
        return bool(self.recipients) and all(
            path.is_file() and sha256(path.read_bytes()) == wanted
            for path, wanted in zip(sent, (said.blob, said.wraps), strict=True)
        )


def recipients_in(folder: Path) -> tuple[Recipient, ...]:
    """Return who can open what is packed in ``folder``; nobody is named for a public one."""
    path = folder / RECIPIENTS
    lines = path.read_text("ascii").split() if path.exists() else []
    return tuple(Recipient.from_text(line) for line in lines)


def _private(public: ContributionManifest, sealed: Sealed) -> ContributionManifest:
    """Return the manifest of the same contribution, sealed."""
    return replace(
        public,
        form="private",
        blob=sha256(sealed.blob),
        bytes=len(sealed.blob),
        plain=public.blob,
        wraps=sha256(sealed.wraps),
    )


def sha256(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hex, as a session keeps it."""
    return hashlib.sha256(data).hexdigest()
