"""Pictures of a concept while it is learnt: fixed prompts, fixed noise, every N steps.

The model draws as it is between two steps, A and vectors attached, so that one can see when to
stop. Image k of a prompt starts from the same noise at every step. Law: the trained bits are the
same with and without (every draw has a generator of its own). Cost: prompts x count x steps x 2
forward passes a time. Nothing here leaves.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from .base import Base
from .captions import PLACE
from .sample import draw
from .step import Step
from .training_settings import TrainingSettings

_SEED = 7


@dataclass(frozen=True, slots=True)
class Samples:
    """What is drawn, and when."""

    base: Base
    settings: TrainingSettings

    def after(self, step: Step) -> Iterator[tuple[str, bytes]]:
        """Yield a name and a PNG for each picture that is due behind ``step``; the last is."""
        every, prompts = self.settings.sample_every, self.settings.sample_prompts
        is_due = every and (step.number % every == 0 or step.number == step.steps)
        if not is_due or not prompts:
            return
        rows = draw(
            self.base,
            step.tokens,
            [prompt.replace(PLACE, step.tokens.phrase) for prompt in prompts],
            count=self.settings.sample_count,
            seed=_SEED,
            steps=self.settings.sample_steps,
        )
        for prompt, row in enumerate(rows, start=1):
            for number, image in enumerate(row, start=1):
                file = io.BytesIO()
                image.convert("RGB").save(file, "PNG")
                yield f"{prompt}-{number}", file.getvalue()
