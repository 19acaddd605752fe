"""What one concept needs on this machine to be trained and scored, checked before it is used.

Base folder -> fingerprint -> model; images folder -> upright squares; TOML -> settings. Each is
loaded once, on first use, and torch with it: a command that only uploads imports this file and
still never loads torch. Law: a wrong base, image or setting is an InputError before any lease.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.quantise import Quantised
from ..core.spec import FederationSpec
from .session import Session

if TYPE_CHECKING:
    from .acceptance import Acceptance
    from .base import Base
    from .dataset import ConceptImages
    from .score import Score, Scorer
    from .tokens import Trigger
    from .training import Step, Trained
    from .training_settings import TrainingSettings

# torch costs seconds to import, so every import of it stands in the function that needs it.
# ruff: noqa: PLC0415


@dataclass(frozen=True)  # no slots: cached_property keeps its values in the instance
class Workbench:
    """The base, the images and the settings of one concept."""

    spec: FederationSpec
    base_folder: Path
    images_folder: Path
    noun: str
    triggers: tuple[str, ...] = ()
    config: Path | None = None
    preset: str | None = None
    steps: int | None = None
    seed: int | None = None

    @cached_property
    def settings(self) -> "TrainingSettings":
        """The training settings: the preset's, then the file's, then the options'.

        Raises InputError: the file or a value is bad.
        """
        from .training_settings import TrainingSettings

        settings = TrainingSettings.read(self.config, preset=self.preset)
        given = {"steps": self.steps, "seed": self.seed}
        return replace(settings, **{k: v for k, v in given.items() if v is not None})

    @cached_property
    def base(self) -> "Base":
        """The loaded base, which is the federation's.

        Raises InputError: the folder is no pipeline, or another base.
        """
        from .base import Base

        return Base.load(self.base_folder, spec=self.spec)

    @cached_property
    def images(self) -> "ConceptImages":
        """The concept's images.

        Raises InputError: none, too few, or a broken one.
        """
        from .dataset import ConceptImages

        return ConceptImages.load(
            self.images_folder,
            size=self.base.image_size,
            step=self.base.image_step if self.settings.buckets else 0,
            noun=self.noun,
            triggers=self.triggers,
        )

    @cached_property
    def scorer(self) -> "Scorer":
        """The held-out images with their fixed draws."""
        from .score import Scorer

        return Scorer.on(self.base, self.images.held_out)

    def check(self) -> None:
        """Load and check everything, cheapest first."""
        _ = self.settings, self.base, self.images

    def train(
        self, session: Session, saves: Path, *, on_step: "Callable[[Step], None]"
    ) -> "Trained":
        """Return the trained concept; goes on from the newest save in the folder ``saves``."""
        from .checkpoint import TrainingSaves
        from .training import identity_of, train

        names = triggers_of(session)
        slot, fence = session.slot, session.fence
        identity = identity_of(self.spec, slot, fence, names, self.noun, self.images, self.settings)
        return train(
            self.base,
            self.spec,
            slot,
            names,
            self.noun,
            self.images,
            self.settings,
            on_step=on_step,
            saves=TrainingSaves(saves, identity),
        )

    def accept(
        self, session: Session, tensors: Mapping[str, Quantised], *, newest: Path | None
    ) -> "Acceptance":
        """Return how well the packed contribution does, alone and with the newest release."""
        from .acceptance import acceptance

        names = triggers_of(session)
        return acceptance(
            self.scorer, self.spec, session.slot, names, self.noun, tensors, newest=newest
        )

    def score(
        self,
        session: Session,
        tensors: Mapping[str, Quantised],
        *,
        release: Path,
        lambdas: tuple[float, ...],
    ) -> "Score":
        """Return the losses of base, contribution and release."""
        from .score import score

        names = triggers_of(session)
        return score(
            self.scorer,
            self.spec,
            session.slot,
            names,
            self.noun,
            tensors,
            release=release,
            lambdas=lambdas,
        )


def triggers_of(session: Session) -> "list[Trigger]":
    """Return the session's triggers as training takes them."""
    from .tokens import Trigger

    return [Trigger(*pair) for pair in zip(session.triggers, session.vectors, strict=True)]
