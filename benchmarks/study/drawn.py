"""What the pictures of one trial show.

    identity    share of pictures whose cosine to their person reaches the embedder's threshold
    likeness    mean cosine to the person, with features that know only people
    nearest     how many pictures are nearest to which concept of the study: the confusion matrix
    image       image alignment: mean cosine to the person's pictures (features.py)
    text        text alignment: how well they go with their prompts (wording.py)

The last two came later: a result from before has neither. Source: method.md 8.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .trial import Trial


@dataclass(frozen=True, slots=True)
class Drawn:
    """Figures by concept; ``nearest``: counts by concept."""

    trial: Trial
    identity: Mapping[str, float]
    likeness: Mapping[str, float]
    nearest: Mapping[str, Mapping[str, int]]
    image: Mapping[str, float] = field(default_factory=dict)
    text: Mapping[str, float] = field(default_factory=dict)

    @property
    def nearest_is_own(self) -> dict[str, float]:
        """Return the share of a concept's pictures that are nearest to itself."""
        return {who: seen.get(who, 0) / sum(seen.values()) for who, seen in self.nearest.items()}

    @property
    def pictures(self) -> int:
        """Return how many there are."""
        return sum(sum(seen.values()) for seen in self.nearest.values())

    def as_plain(self) -> dict[str, Any]:
        """Return what stands in a result; figures name the concepts, in their order."""
        trial = self.trial
        return {
            "method": trial.method,
            "factor": trial.factor,
            "lambda": trial.lambda_,
            "seed": trial.seed,
            "identity": self.identity,
            "likeness": self.likeness,
            "nearest": self.nearest,
            "image": self.image,
            "text": self.text,
        }

    @staticmethod
    def of_plain(held: Mapping[str, Any]) -> "Drawn":
        """Read what ``as_plain`` wrote, of this or an older run."""
        names = tuple(held["identity"])
        seed = held.get("seed", 0)
        return Drawn(
            Trial(held["method"], held["factor"], names, held["lambda"], seed),
            held["identity"],
            held["likeness"],
            held["nearest"],
            held.get("image", {}),
            held.get("text", {}),
        )
