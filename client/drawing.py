"""What the pictures of a grid have in common; what differs from one to the next is sample.py's."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.regions import APART, Region


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a picture is drawn, beside its prompt and its seed."""

    regions: Sequence[Region] = ()  # each reads its own prompt; the rest of the picture the row's
    negative: str = ""  # what the pictures should not be
    size: tuple[int, int] | None = None  # width and height in pixels; None: the model's own
    steps: int = 25
    guidance: float = 4.0
    apart: float = APART  # share of the noise levels where each region is drawn on its own
