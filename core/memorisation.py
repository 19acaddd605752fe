"""How much better a contribution does on the images it was trained on than on others of its kind.

    gain(images) = 1 - L_contribution / L_base          score = gain(trained on) - gain(held out)

Law: 0 for the base itself, for a training that taught nothing, and for one whose gain is the same
on images it never saw. ``BY_HEART`` is where the owner is warned, between the two kinds of training
of benchmarks/memorisation.py on the shipped base; another base may want another. Sources and what
it does not show: client/memorisation.py and docs/privacy.md. T21.
"""

from dataclasses import dataclass
from typing import Final

BY_HEART: Final = 0.05


@dataclass(frozen=True, slots=True)
class Memorisation:
    """The two gains over the base, as shares of its loss."""

    gain_trained: float
    gain_held_out: float

    @property
    def score(self) -> float:
        """Return the gap between the two.

        >>> round(Memorisation(0.18, 0.01).score, 3)
        0.17
        """
        return self.gain_trained - self.gain_held_out

    @property
    def by_heart(self) -> bool:
        """Whether the owner is warned."""
        return self.score > BY_HEART
