"""The owner's page of one concept, made anew from its log whenever something happened to it."""

from dataclasses import dataclass
from pathlib import Path

from .egress import EgressList
from .home import write_whole
from .owner_scores import OwnerScores
from .session import Session
from .state import LOG
from .training_report import TrainingReport


@dataclass(frozen=True, slots=True)
class ConceptPage:
    """Page and log of the concept in ``folder``; a contribution without a log has no page."""

    folder: Path
    scores: OwnerScores

    def log(self, session: Session) -> Path:
        """Return the folder of this lease's log; it is kept for the owner."""
        return self.folder / LOG / str(session.fence)

    def write(self, session: Session, *, state: str, listing: EgressList | None = None) -> None:
        """Write the page; ``state`` says in words how far it has come."""
        folder, scores = self.log(session), self.scores.kept()
        report = TrainingReport.of(
            folder, session.concept, scores=scores, listing=listing, state=state
        )
        if report is not None:
            write_whole(folder / "report.html", report.html().encode())
