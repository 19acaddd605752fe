"""One step of a training, as the loop tells it to its log, its pictures and whoever watches.

Nothing here loads torch: the bench of a simulation tells the same of a toy.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tokens import LearnedTokens


@dataclass(frozen=True, slots=True)
class Step:
    """One step that is done; what it says stays at home."""

    number: int  # how many are done
    steps: int
    loss: float  # on the concept's images
    null_loss: float  # the null-response term, before its weight
    prior_loss: float  # on class images, before its weight; 0 without
    rate: float  # of A, as scheduled
    seconds_left: float
    tokens: "LearnedTokens"  # live and attached, as A is: draw with them and read only
    seconds: float = 0.0  # it took, without saves and what is done between steps
    skipped: bool = False  # a gradient was beyond float16: nothing was updated
    held_out_loss: float | None = None  # where validation.py was asked for it
