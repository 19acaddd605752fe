"""One residual for all concepts that answers each one's own inputs as that concept alone would.

    U = argmin  sum_i tr((U - U_i) G_i (U - U_i)^T) + ridge ||U||^2
      = (sum_i U_i G_i)(sum_i G_i + ridge I)^-1

All residuals of a layer are U D with the same rows D [R, m]; U_i [n, R] is the residual of concept
i, 0 outside its own columns where slots are disjoint, and G_i = sum (D x)(D x)^T over the inputs x
that the layer sees while concept i is drawn. The plain sum U_1 + U_2 + ... adds to each concept
what all others answer on its inputs; this takes away what they can do without. It is Mix-of-Show's
gradient fusion (arXiv 2305.18292) in closed form, kept inside the slots: no file grows, and no two
concepts need the same column. Source: method.md 8, docs/study.md. Cost: O(R^3 + n R^2) time and
R (R + n) numbers a layer, however many concepts.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

RIDGE = 0.1
"""Of the mean of sum_i G_i's diagonal. The few inputs that were seen must not decide what happens
on all others: with 1e-6 a fusion of three keeps less than no training gives (docs/study.md)."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What one layer has to answer: sum_i U_i G_i, sum_i G_i and the plain sum_i U_i."""

    wanted: Float64[np.ndarray, "n R"]
    gram: Float64[np.ndarray, "R R"]
    summed: Float64[np.ndarray, "n R"]

    @staticmethod
    def begun(outputs: int, rank: int) -> "Fit":
        """Return the fit of no concept yet, to a layer of n ``outputs`` and R = ``rank``."""
        empty = np.zeros((outputs, rank))
        return Fit(empty, np.zeros((rank, rank)), empty.copy())

    def add(self, up: Float64[np.ndarray, "n R"], gram: Float64[np.ndarray, "R R"]) -> None:
        """Take in one concept: U_i and G_i."""
        self.wanted[:] += up @ gram
        self.gram[:] += gram
        self.summed[:] += up

    def solved(self) -> Float64[np.ndarray, "n R"]:
        """Return U; a layer that saw nothing at all gets the plain sum."""
        reached = np.count_nonzero(np.diag(self.gram))  # a file's padding is reached by nothing
        if not reached:
            return self.summed.copy()
        ridge = RIDGE * float(np.trace(self.gram)) / reached
        return np.linalg.solve(self.gram + ridge * np.eye(len(self.gram)), self.wanted.T).T


def error(
    whole: Float64[np.ndarray, "n R"],
    up: Float64[np.ndarray, "n R"],
    gram: Float64[np.ndarray, "R R"],
) -> tuple[float, float]:
    """Return tr((U - U_i) G_i (U - U_i)^T) and tr(U_i G_i U_i^T): what is off, and of how much."""
    off = whole - up
    return float(np.sum((off @ gram) * off)), float(np.sum((up @ gram) * up))
