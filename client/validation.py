"""The held-out loss while a concept is learnt: the same images and noise, every N steps.

The loss of a step jumps with the noise that was drawn; this one does not, and it is made on images
that are never trained on: where it stops falling, more steps learn the images and not the concept.
Law: the trained bits are the same with and without (every draw has a generator of its own). Cost:
one forward pass of each draw a time. The figures stay at home.
"""

from dataclasses import dataclass
from functools import cached_property

from .base import Base
from .captioned import Captioned
from .score import Scorer
from .step import Step
from .training_settings import TrainingSettings


@dataclass(frozen=True)  # no slots: cached_property keeps its value in the instance
class Validation:
    """What is scored, and when."""

    base: Base
    held_out: tuple[Captioned, ...]
    settings: TrainingSettings

    def after(self, step: Step) -> float | None:
        """Return the held-out loss if it is due behind ``step``; behind the last it always is."""
        every = self.settings.validate_every
        if not every or (step.number % every and step.number != step.steps):
            return None
        return self._scorer.loss_as_is(step.tokens, step.tokens.phrase)

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer.on(self.base, self.held_out, num_draws=self.settings.validate_draws)
