"""How an image was cut from what its owner had: the micro-conditions of SDXL.

    time ids = (original height, width, crop top, left, target height, width)        in pixels

The original size is the upright file's, before it was scaled; the corner is where the cut begins
in the scaled image; the target is the bucket. Source: arXiv 2307.01952, section 2.2. The order is
that of diffusers' `_get_add_time_ids`, the meaning that of its SDXL training scripts.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Framing:
    """Sizes are (height, width) and the corner (top, left), in pixels."""

    original: tuple[int, int]
    corner: tuple[int, int]
    target: tuple[int, int]

    @staticmethod
    def whole(side: int) -> "Framing":
        """Return the framing of an uncut square image: what a pipeline asks for by default."""
        return Framing((side, side), (0, 0), (side, side))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The six time ids."""
        return (*self.original, *self.corner, *self.target)
