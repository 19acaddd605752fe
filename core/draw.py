"""The paper's own choice of columns: a concept draws r of m at random, alone.

Two draws share r^2 / m columns on average, which is why slots exist; the draw stays for comparison
and interoperation. Law: it depends on (seed, width, path, concept number) alone. Source: method.md
2.5 and 4.3. Cost: O(m).
"""

import numpy as np

from .errors import SpecError
from .stream import Stream


def draw(index: int, *, seed: bytes, layer: str, width: int, rank: int) -> tuple[int, ...]:
    """Return the columns of O that concept number ``index`` draws, in its own order.

    >>> draw(0, seed=bytes(range(32)), layer="unet.test", width=320, rank=5)
    (241, 203, 228, 316, 41)

    Raises SpecError: a rank outside 1..width.
    """
    if not 1 <= rank <= width:
        raise SpecError(
            f"{rank} columns drawn of {width} in {layer}",
            why="a concept has at least one column, and no more than the layer has inputs",
            fix=f"choose a rank from 1 to {width}",
            code="rank-does-not-fit",
        )
    stream = Stream("draw", seed, width, index=index, path=layer)
    order = list(range(width))
    steps = stream.below(np.arange(width, width - rank, -1, dtype=np.int64)).tolist()
    for i, step in enumerate(steps):
        order[i], order[i + step] = order[i + step], order[i]
    return tuple(order[:rank])
