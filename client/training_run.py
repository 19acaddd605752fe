"""One training of a bench's concept, with all that watches it: log, pictures, loss, pace.

Law: what watches changes nothing that is learnt, so it is no part of the run's identity. Behind
each step the log has it before anybody is told, and the pace may stop the run there, where its
state is whole. Not here: the steps (training.py), what is loaded and checked before (workself.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.dp_claim import DpClaim
from ..core.spec import FederationSpec
from .base import Base
from .caches import Caches
from .checkpoint import TrainingSaves
from .corrective_ground import Ground
from .dataset import ConceptImages
from .pace import Pace
from .samples import Samples
from .session import Session
from .step import Step
from .trained import Trained
from .training import identity_of, train
from .training_log import TrainingLog
from .training_settings import TrainingSettings
from .validation import Validation
from .worker import Shared
from .workers import shared_among


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRun:
    """What is trained where: a bench's concept, in the session's slot, from ``start``."""

    spec: FederationSpec
    base_folder: Path
    base: Base
    images: ConceptImages
    noun: str
    settings: TrainingSettings
    dp: DpClaim | None
    session: Session
    start: Ground
    pace: Pace

    def train(
        self,
        saves: Path,
        *,
        cache: Path,
        classes: Path,
        log: Path,
        on_step: Callable[[Step], None],
    ) -> Trained:
        """Return the trained concept, as Workbench.train says, and raise what it says."""
        start, session, settings = self.start, self.session, self.settings
        names, slot = session.as_triggers(), session.block
        identity = identity_of(start.spec, slot, names, self.noun, self.images, settings, self.dp)
        samples = Samples(self.base, settings)
        validation = Validation(self.base, self.images.held_out, settings)
        shared = Shared(
            self.spec,
            slot,
            names,
            self.noun,
            self.images,
            settings,
            self.base_folder,
            TrainingSaves(saves, identity),
            cache,
            classes,
        )
        with (
            shared_among(shared) as group,
            TrainingLog(log, identity, settings.as_dict(), self._facts()) as kept,
        ):

            def noted(step: Step) -> None:
                step = replace(step, held_out_loss=validation.after(step))
                kept.record(step)
                for name, png in samples.after(step):
                    kept.picture(step.number, name, png)
                on_step(step)
                self.pace.look(step.seconds)

            return train(
                self.base,
                start.spec,
                slot,
                names,
                self.noun,
                self.images,
                settings,
                on_step=noted,
                saves=shared.saves,
                caches=Caches.at(cache, classes, settings),
                residuals=start.residuals,
                vectors=start.vectors,
                group=group,
                dp=self.dp,
            )

    def _facts(self) -> dict[str, str]:
        """Return what stands on top of the report."""
        session, spec, images = self.session, self.spec, self.images
        return {
            "concept": session.concept,
            "class noun": self.noun,
            "triggers": ", ".join(session.triggers),
            "slot": f"{session.slot} at fence {session.fence}",
            "base": f"{spec.base.name}, revision {spec.base.revision}",
            "images": f"{len(images.train)} to train on, {len(images.held_out)} held out",
        }
