"""From the owner's yes to a receipt, verified and kept: the bytes that were shown, no others.

Left to others: which bytes may pass (outbox.py), resuming them (upload.py), what a receipt has to
say (trust.py).
"""

from dataclasses import dataclass

from ..core.errors import VerificationFailed
from ..core.keys import SigningKey
from ..core.receipt import Receipt
from . import session as flow
from .channel import Channel
from .concept_page import ConceptPage
from .happened import Happened, Report
from .home import Home, write_whole
from .outbox import Outbox
from .packed_contribution import PackedContribution, sha256
from .pinned import remembered
from .session import Session
from .state import RECEIPT
from .throttle import Throttle
from .trust import TrustedFederation, trusted_receipt
from .upload import Upload, chunk_hashes


@dataclass(slots=True)
class Sending:
    """One concept's way to the coordinator."""

    home: Home
    packed: PackedContribution
    page: ConceptPage
    channel: Channel
    outbox: Outbox
    federation: TrustedFederation
    report: Report
    throttle: Throttle

    def send(self, session: Session, key: SigningKey) -> flow.Received:
        """Send the approved bytes, verify the receipt, keep it."""
        manifest, _ = self.packed.read(session)
        blob, wraps = self.packed.sent_blob, self.packed.wraps
        self.outbox.approve(manifest, chunk_hashes(blob), wraps)
        receipt = Upload(
            self.channel,
            key=key,
            document=manifest,
            blob=blob,
            wraps=wraps,
            throttle=self.throttle,
            on_bytes=lambda sent, total: self._say("uploading", sent=sent, total=total),
        ).run()
        self._verified(receipt, manifest)
        write_whole(self.packed.folder / RECEIPT, receipt)
        listing = self.packed.listing(session)
        self.page.write(session, state="sent, receipt kept", listing=listing)
        return flow.Received(sha256(receipt))

    def done(self, session: Session) -> None:
        """Say what the kept receipt promises, after verifying it once more."""
        path = self.packed.folder / RECEIPT
        manifest, _ = self.packed.read(session)
        receipt = self._verified(path.read_bytes(), manifest)
        self._say(
            "receipt",
            concept=session.concept,
            slot=session.slot,
            leaf=receipt.index,
            sha256=session.receipt,
            file=str(path),
        )

    def _verified(self, receipt: bytes, manifest: bytes) -> Receipt:
        """Verify a receipt, by a keyring that came during these hours if need be."""
        try:
            return trusted_receipt(self.federation, receipt, manifest=manifest)
        except VerificationFailed:
            self.federation = remembered(self.home, self.channel).federation
            return trusted_receipt(self.federation, receipt, manifest=manifest)

    def _say(self, name: str, **values: object) -> None:
        self.report(Happened(name, values))
