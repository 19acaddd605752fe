"""What a training gives. Its tensors travel, once packing.py has made integers of them.

Nothing here loads torch: the bench of a simulation gives the same of a toy.
"""

from dataclasses import dataclass

import numpy as np

from ..core.dp_claim import DpClaim


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives: the tensors that travel (after packing.py) and facts that stay."""

    a: dict[str, np.ndarray]  # layer path -> (n, r) float32
    embeddings: dict[tuple[str, int], np.ndarray]  # (encoder, trigger no.) -> (sets x v, width)
    probes: dict[int, np.ndarray]  # trigger number -> (4, width of the text features)
    losses: tuple[float, ...]  # of each step; they stay at home
    seconds: float  # of this process, without what was resumed
    resumed_at: int  # the step this process began with
    dp: DpClaim | None = None  # what it makes good
