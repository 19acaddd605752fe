"""Images that are nearly the same: a second copy weighs twice, and a held-out one would be known.

Two images are near when their thumbnails of 8 x 8 pixels differ by at most 6 of 255 in the root
mean square: re-saved and rescaled copies do, two photographs of one scene seldom. Cost: n^2 / 2
comparisons of 192 numbers.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from PIL import Image

_NEAR = 6.0


def near_duplicates(images: Sequence[tuple[str, Image.Image]]) -> list[tuple[str, str]]:
    """Return the names of every pair of near images, in the given order."""
    small = [
        (name, np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float64))
        for name, image in images
    ]
    return [
        (a, b)
        for (a, first), (b, second) in combinations(small, 2)
        if np.sqrt(np.square(first - second).mean()) <= _NEAR
    ]
