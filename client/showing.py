"""What is packed, shown to its owner before anything leaves: weight, scores, every byte; then yes.

    packed bytes -> weighed beside the base -> scored at home -> listed -> the owner's yes

Law: what weighs too much is refused here, hours of upload earlier than the coordinator would; the
figures are made once and stay at home. Left to others: the list and its gate (egress.py), sending.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.bounds import Bounds
from ..core.memorisation import Memorisation
from ..core.spec import FederationSpec
from . import session as flow
from .channel import Channel
from .concept_page import ConceptPage
from .egress import EgressList, gate
from .happened import Happened, Report
from .packed_contribution import PackedContribution
from .session import Session
from .weighing import Weighing
from .workbench import Workbench

if TYPE_CHECKING:
    from .acceptance import Acceptance


@dataclass(frozen=True, slots=True)
class Showing:
    """One concept's last stop at home; ``bounds``: the operator's, if it told them."""

    packed: PackedContribution
    page: ConceptPage
    bench: Workbench
    channel: Channel
    base: Path
    bounds: Bounds | None
    report: Report
    ask: Callable[[EgressList], bool]
    advance: Callable[[], None]
    """Called after each step that took long, so that the lease is renewed."""

    def show(self, session: Session) -> flow.Approved:
        """Weigh and score what is packed, show what would leave, and go on only with a yes.

        Raises ContributionRejected: it weighs too much. Raises InputError: the owner said no.
        """
        warnings = self._weigh(session).warnings
        listing = replace(self.packed.listing(session), warnings=warnings)
        memorised: dict[str, float] = {}
        for name, values in self.bench.told(self.packed.folder):
            self._say(name, **values)
        if self.bench.has_images:
            scores = self._scored(session)
            self._say("scored", **scores)
            found = Memorisation(scores["gain_trained"], scores["gain_held_out"])
            listing = replace(listing, memorisation=found)
            memorised = {"memorisation": scores["memorisation"]}
        files = [
            {"name": file.name, "bytes": file.num_bytes, "sha256": file.sha256}
            for file in listing.files
        ]
        self._say(
            "egress",
            files=files,
            recipients=list(listing.recipients),
            bytes=listing.num_bytes,
            upload_bytes=listing.num_bytes,
            lora_bytes=_lora_bytes(self.packed.spec),
            **memorised,
        )
        self.page.write(session, state="asking for your yes", listing=listing)
        gate(listing, ask=self.ask)
        self.page.write(session, state="approved by you", listing=listing)
        self.advance()
        return flow.Approved()

    def _weigh(self, session: Session) -> Weighing:
        """Say what the contribution weighs."""
        self._say("checking", what="what the contribution weighs beside the base")
        _, blob = self.packed.read(session)
        told = None if self.packed.recipients else self.bounds
        weighing = Weighing.of(blob, self.packed.layout(session), self.base, told=told)
        self._say("weighed", **weighing.values())
        return weighing

    def _scored(self, session: Session) -> dict[str, float]:
        """Return the acceptance figures; they are computed once."""
        if "memorisation" in (found := self.page.scores.kept()):
            return found
        self._say("scoring")
        tensors = self.packed.tensors(session)

        def accept(newest: Path | None) -> "Acceptance":
            return self.bench.accept(session, tensors, newest=newest)

        scores = self.page.scores.make(self.channel, self.packed.log, accept)
        self.advance()
        return scores

    def _say(self, name: str, **values: object) -> None:
        self.report(Happened(name, values))


def _lora_bytes(spec: FederationSpec) -> int:
    """Return what both factors of every layer would weigh at the same 16 bits."""
    return sum(2 * spec.layer_rank(layer) * (layer.out + layer.width) for layer in spec.layers)
