"""How loud a contribution is among others: the size of its A over that of theirs.

    loudness = median over layers of |A_l| / (median over the others of |A_l|)

Two medians, so neither a layer that one concept needs much of nor a few loud others decide it; one
that was multiplied by 3 has 3 times the loudness, whatever the layers do. Source: security.md 8
(T12); the cap of a layer has to leave room for the heaviest honest layer, this has not. Cost: a
sort of each layer's norms. Not here: what loudness is too much (coordinator/policy.py).
"""

from collections.abc import Sequence

import numpy as np

LEAST = 5
"""Fewer others say nothing about what is usual."""


def loudness_percent(layers: Sequence[float], others: Sequence[Sequence[float]]) -> float:
    """Return the loudness in hundredths; 0 beside fewer than LEAST others, or silent ones.

    Shapes: ``layers`` (l,) and each of ``others`` (l,), norms in one unit and order.

    >>> loudness_percent([3.0, 9.0], [[1.0, 3.0]] * 5)
    300.0
    """
    if len(others) < LEAST:
        return 0.0
    usual = np.median(np.array(others, dtype=np.float64), axis=0)
    heard = usual > 0
    if not heard.any():
        return 0.0
    return round(100 * float(np.median(np.array(layers)[heard] / usual[heard])), 1)
