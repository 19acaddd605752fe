"""Regions of a picture: which prompt each position of a latent reads, and by how much.

    w_r(p) = 1 / n(p)  where the centre of p lies in region r and in n(p) regions in all
    w_0(p) = 1         where it lies in none: there the prompt of the whole picture is read

how far inside a region p lies, f_r(p): 0 at its edges, 1 from ``depth`` positions inwards, where an
edge of the picture is none; and the window of a region: the part of the latent in which it can be
drawn as a picture of its own, which is the region, made as large as the model's own pictures where
there is room.

Laws: the weights sum to 1 at every position, at every resolution and for every aspect ratio; boxes
are half-open (x0 <= x < x1), so boxes that meet neither overlap nor leave a gap; a region that
holds no position is an error, since its prompt would be dropped without a word. A box at least one
position wide and high always holds one. A window holds every position
of its region. Numpy only. Not here: attention that reads by the weights, passes over windows.
Source: masked cross-attention as in arXiv:2302.02412, with equal shares; windows of the model's own
size as in arXiv:2302.08113.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float64, Int

from .errors import InputError

MAX_REGIONS: Final = 16
"""Each is one more prompt to encode and one more share of every cross-attention."""
APART: Final = 0.6
"""Share of the noise levels, from the noisiest down, where regions meet at their edges unseen."""
PLACES: Final[Mapping[str, tuple[float, float, float, float]]] = {
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
    "center": (0.25, 0.25, 0.75, 0.75),
    "top-left": (0.0, 0.0, 0.5, 0.5),
    "top-right": (0.5, 0.0, 1.0, 0.5),
    "bottom-left": (0.0, 0.5, 0.5, 1.0),
    "bottom-right": (0.5, 0.5, 1.0, 1.0),
}
"""The named areas."""


@dataclass(frozen=True, slots=True)
class Region:
    """An area (x0, y0, x1, y1) in fractions of width and height, from the top left; its prompt."""

    box: tuple[float, float, float, float]
    prompt: str

    @staticmethod
    def parse(text: str) -> "Region":
        """Return the region that ``text`` describes: ``AREA: PROMPT``.

        Raises InputError: the area is no name and no box inside the picture, or no prompt follows.

        >>> Region.parse("left: a fox")
        Region(box=(0.0, 0.0, 0.5, 1.0), prompt='a fox')
        >>> Region.parse("0,0.1,0.5,1: a fox: red").prompt
        'a fox: red'
        """
        area, _, prompt = (part.strip() for part in text.partition(":"))
        box = PLACES.get(area.lower()) or _box(area)
        if not prompt:
            raise InputError(
                f"the region {text[:80]!r} has no prompt",
                why="an area without one would say nothing",
                fix='write it as "left: a picture of anna-k7"',
                code="region-without-prompt",
            )
        return Region(box, prompt)

    def holds(self, height: int, width: int) -> Bool[np.ndarray, "h w"]:
        """Return whether the centre of each of ``height`` x ``width`` positions is inside."""
        x0, y0, x1, y1 = self.box
        x, y = ((np.arange(side) + 0.5) / side for side in (width, height))
        return np.outer((y0 <= y) & (y < y1), (x0 <= x) & (x < x1))


def region_weights(
    regions: Sequence[Region], height: int, width: int
) -> Float64[np.ndarray, "parts h w"]:
    """Return w: row 0 of the whole picture's prompt, then one of each region, in their order.

    Raises InputError: a region holds no position of ``height`` x ``width``, or there are too many.

    >>> region_weights([Region.parse("left: a fox")], 1, 4)[:, 0].tolist()
    [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]]
    """
    if len(regions) > MAX_REGIONS:
        raise InputError(
            f"{len(regions)} regions, at most {MAX_REGIONS}",
            why="each costs a prompt in every attention",
            fix="leave some out",
            code="too-many-regions",
        )
    held = np.zeros((len(regions) + 1, height, width))
    for row, region in enumerate(regions, start=1):
        held[row] = region.holds(height, width)
        if not held[row].any():
            raise _empty(region, height, width)
    held[0] = held.sum(0) == 0
    return held / held.sum(0)


def inside(region: Region, height: int, width: int, *, depth: float) -> Float64[np.ndarray, "h w"]:
    """Return f of ``region``: 0 outside and at its edges, 1 ``depth`` positions or more inside.

    An edge of the picture itself is no edge: nothing is beyond it.

    >>> inside(Region.parse("left: a fox"), 1, 8, depth=2.0)[0].tolist()
    [1.0, 1.0, 0.75, 0.25, 0.0, 0.0, 0.0, 0.0]
    """
    x0, y0, x1, y1 = region.box
    sides = _depths(height, y0, y1)[:, None], _depths(width, x0, x1)[None, :]
    return np.clip(np.minimum(*sides) / depth, 0, 1)


def window(
    region: Region, height: int, width: int, *, own: tuple[int, int], step: int
) -> tuple[slice, slice]:
    """Return rows and columns of ``height`` x ``width`` positions: the window of ``region``.

    It is at least ``own`` (height, width) large where there is room, around the region's middle;
    its sides are multiples of ``step``, as those of the latent have to be. The region holds some.

    >>> window(Region.parse("left: a fox"), 8, 24, own=(8, 8), step=2)
    (slice(0, 8, None), slice(0, 12, None))
    """
    y, x = region.holds(height, width).nonzero()
    return _stretch(y, height, own[0], step), _stretch(x, width, own[1], step)


def _depths(side: int, low: float, high: float) -> Float64[np.ndarray, " side"]:
    """Return how many positions each of ``side`` lies behind the nearer of two edges."""
    middles = np.arange(side) + 0.5
    far = np.full(side, np.inf)  # where no position lies beyond the edge
    behind = middles - side * low if middles[0] < side * low else far
    before = side * high - middles if side * high <= middles[-1] else far
    return np.minimum(behind, before)


def _stretch(held: Int[np.ndarray, " k"], full: int, least: int, step: int) -> slice:
    """Return the part of ``full`` positions that has all of ``held`` and ``least``, if it fits."""
    first, last = int(held.min()), int(held.max()) + 1
    length = min(full, -(-max(last - first, least) // step) * step)
    start = min(max((first + last - length) // 2, 0), full - length)
    return slice(start, start + length)


def _box(area: str) -> tuple[float, float, float, float]:
    """Return the four numbers in ``area``. Raises InputError: no box in the picture."""
    try:
        x0, y0, x1, y1 = (float(number) for number in area.split(","))
    except ValueError:
        x0 = y0 = x1 = y1 = 0.0
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):  # also not a number
        raise InputError(
            f"{area[:80]!r} is no area of a picture",
            why="an area is a name or x0,y0,x1,y1 with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1",
            fix=f"use {', '.join(PLACES)}, or a box such as 0,0.1,0.5,1",
            code="no-such-region",
        )
    return x0, y0, x1, y1


def _empty(region: Region, height: int, width: int) -> InputError:
    x0, y0, x1, y1 = region.box
    return InputError(
        f"the region of {region.prompt[:60]!r} is {x1 - x0:.3f} x {y1 - y0:.3f} of the picture and"
        f" holds none of the {width} x {height} positions where the model reads prompts,"
        f" each {1 / width:.3f} x {1 / height:.3f}",
        why="its prompt would be read nowhere",
        fix=f"make it at least {1 / width:.3f} wide and {1 / height:.3f} high, or --size larger",
        code="region-too-small",
    )
