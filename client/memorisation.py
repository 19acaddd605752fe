"""How much a contribution learnt its training images by heart, scored at home before it leaves.

    score = gain(trained on) - gain(held out)     gain = 1 - L_single / L_base, equal draws for both

What a concept teaches helps on every picture of it, so both gains rise together; what helps on the
very images that were trained on, and on no other, is the memory of them. That gap is what tells a
member from a stranger by its loss (arXiv:1709.01604, theorem 2: the advantage of such a test is the
gap over the largest loss); the base's own loss on the same images stands for how hard they are
(arXiv:2111.08440); and the loss at fixed timesteps and noise is what attacks on diffusion models go
by (arXiv:2302.01316; arXiv:2301.13188, section 5.2). A low score proves nothing: it is one test,
over all images at once, and who has the contribution can try more (docs/privacy.md).

Laws: what is scored are the integers that would be sent (T21); every draw is fixed; the figures
stay at home. Cost: `planned_draws` forward passes of base and contribution, about a twentieth of
the training's; the held-out losses are acceptance.py's.
"""

import math
from collections.abc import Sequence
from typing import Final

from ..core.memorisation import Memorisation
from .base import Base
from .captioned import Captioned
from .score import NUM_DRAWS, Scorer
from .training_settings import TrainingSettings
from .variant import Variant

_MOST_IMAGES: Final = 64
_LEAST_DRAWS: Final = 8
_SHARE: Final = 0.05
_BACKWARD: Final = 2  # a backward pass takes about two forward ones


def memorisation(
    base: Base,
    trained_on: Sequence[Captioned],
    variant: Variant,
    *,
    phrase: str,
    noun: str,
    held_out: tuple[float, float],
    num_draws: int = NUM_DRAWS,
) -> Memorisation:
    """Score ``variant``, one contribution alone.

    ``held_out``: the losses of base and contribution on held-out images. Each image has timesteps
    from all over the schedule. Of more than 64 images, 64 are taken evenly.
    """
    some = _evenly(trained_on, min(_MOST_IMAGES, num_draws))
    before = after = 0.0
    for group in _by_size(some):
        scorer = Scorer.on(base, group, num_draws=math.ceil(num_draws * len(group) / len(some)))
        before += len(group) * scorer.base_loss(noun)
        after += len(group) * scorer.loss(variant, phrase)
    return Memorisation(_gain(before, after), _gain(*held_out))


def planned_draws(settings: TrainingSettings) -> int:
    """Return how many draws are scored behind such a training.

    >>> planned_draws(TrainingSettings()), planned_draws(TrainingSettings(steps=100))
    (256, 120)
    """
    images = settings.batch + (settings.null_batch if settings.null_weight else 0)
    passes = settings.steps * settings.accumulation * images * (1 + _BACKWARD)
    return max(_LEAST_DRAWS, min(NUM_DRAWS, int(_SHARE * passes / 2)))


def _evenly(items: Sequence[Captioned], most: int) -> list[Captioned]:
    """Return at most ``most`` of the items, spread over all of them."""
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]


def _by_size(items: Sequence[Captioned]) -> list[list[Captioned]]:
    """Return the images of each size, as they were trained on."""
    sizes = dict.fromkeys(item.size for item in items)
    return [[item for item in items if item.size == size] for size in sizes]


def _gain(before: float, after: float) -> float:
    return 1 - after / before if before else 0.0
