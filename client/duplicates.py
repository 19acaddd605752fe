"""Images that are nearly the same: a second copy weighs twice, and a held-out one would be known.

Two images are near when their thumbnails of 8 x 8 pixels differ by at most 6 of 255 in the root
mean square: re-saved and rescaled copies do, two photographs of one scene seldom. Cost: n^2 / 2
comparisons of 192 numbers, a row at a time.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

_NEAR = 6.0


def thumbnail(image: Image.Image) -> np.ndarray:
    """Return what is compared of an image: 192 numbers from 0 to 255."""
    return np.asarray(image.resize((8, 8), Image.Resampling.BOX), np.float32).reshape(-1)


def near_duplicates(images: Sequence[tuple[str, np.ndarray]]) -> list[tuple[str, str]]:
    """Return the names of every pair of near thumbnails, in the given order."""
    pairs = list[tuple[str, str]]()
    rows = np.stack([row for _, row in images])
    for number, (name, row) in enumerate(images):
        others = rows[number + 1 :]
        near = np.sqrt(np.square(others - row).mean(axis=1, dtype=np.float64)) <= _NEAR
        pairs += [(name, images[number + 1 + int(k)][0]) for k in np.flatnonzero(near)]
    return pairs
