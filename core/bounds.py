"""What a federation lets one contribution weigh, as owners may know it before they send.

Law: these three numbers follow from bytes and base alone, so they can be checked at home. The other
gates of security.md 8 need everybody's contributions, and stay with the coordinator
(coordinator/policy.py). Units: hundredths of what the base has. Source: security.md 8.
"""

import math
from dataclasses import dataclass

MOST = 1_000_000
"""The largest bound; no contribution reaches it, so it switches its gate off."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds; each is met up to and including its number.

    ``norm_percent``: spectral norm of a layer's A over that of W. ``embedding_percent``: a learned
    vector's length over that of the longest in the base's vocabulary. ``budget_percent``: the bound
    of the merged residual of a layer, over W.
    """

    norm_percent: int = 100
    embedding_percent: int = 800
    budget_percent: int = MOST


def full_house(norm_percent: int, num_slots: int, epochs: int = 1) -> int:
    """Return the budget that ``num_slots`` contributions at the norm cap use, rounded up.

    Blocks of one epoch are disjoint, so squares add up (T12); those of several need not be, so
    their roots do.

    >>> full_house(100, 12), full_house(100, 24, epochs=2)
    (347, 693)
    """
    return min(MOST, math.ceil(norm_percent * epochs * math.sqrt(num_slots / epochs)))
