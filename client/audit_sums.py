"""The layers of an audited file where slots of several bases cannot be told apart.

Law: of such a layer nothing is said but whether the contributions, all of them or some, add up to
it within rounding (core/extraction.py, ``summed``); a concept is in all of these layers or in none.
Not here: the layers where each slot is found by itself (audit.py).
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from ..core.extraction import Summed
from ..core.spec import Layer

InSum = Literal["in the sum", "absent", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Together:
    """What those layers say. ``summed``: how many were compared with the contributions' sum.

    ``layer``: where that is off most, empty where nowhere; ``untold``: how many were not compared,
    for want of contributions.
    """

    summed: int = 0
    layer: str = ""
    untold: int = 0


@dataclass(slots=True)
class Sums:
    """The layers so far: ``add`` each, then ask ``together`` and ``said``."""

    _summed: int = 0
    _untold: int = 0
    _worst: tuple[float, str] = (1.0, "")
    _held: dict[int, str] = field(default_factory=dict[int, str])
    _absent: dict[int, str] = field(default_factory=dict[int, str])

    def add(self, layer: Layer, found: Summed | None) -> None:
        """Take in one layer; None: not all contributions are at hand."""
        if found is None:
            self._untold += 1
            return
        self._summed += 1
        excess = over(found.off, found.floor)
        if excess > 1.0:  # which of them it holds is then a guess
            self._worst = max(self._worst, (excess, layer.path))
            return
        for slot in found.held:
            self._held.setdefault(slot, layer.path)
        for slot in found.absent:
            self._absent.setdefault(slot, layer.path)

    @property
    def together(self) -> Together:
        """What all of the layers say."""
        return Together(self._summed, self._worst[1], self._untold)

    def said(self, slot: int) -> InSum:
        """Return what these layers say of one slot that no other layer speaks of."""
        if self._untold or self._worst[1]:
            return "cannot be told"
        return "absent" if slot in self._absent else "in the sum"

    def against(self, slot: int, *, absent: bool) -> str:
        """Return a layer that holds a concept which others lack, or lacks one that others hold."""
        return (self._held if absent else self._absent).get(slot, "")


def over(size: float, floor: float) -> float:
    """Return a norm in units of its floor."""
    if floor:
        return size / floor
    return math.inf if size else 0.0
