"""One residual for all concepts that answers each one's own inputs as that concept alone would.

    U = argmin  sum_i tr((U - U_i) G_i (U - U_i)^T) + ridge ||U||^2
      = (sum_i U_i G_i)(sum_i G_i + ridge I)^-1

All residuals of a layer are U D with the same rows D [R, m]; U_i [n, R] is the residual of concept
i, 0 outside its own columns where slots are disjoint, and G_i = sum (D x)(D x)^T over the inputs x
that the layer sees while concept i is drawn. The plain sum U_1 + U_2 + ... adds to each concept
what all others answer on its inputs; this takes away what they can do without. It is Mix-of-Show's
gradient fusion (arXiv 2305.18292) in closed form, kept inside the slots: no file grows, and no two
concepts need the same column. Source: method.md 8, docs/study.md. Cost: O(R^3 + n R^2) a layer.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

RIDGE = 0.1
"""Of the mean of sum_i G_i's diagonal. The few inputs that were seen must not decide what happens
on all others: with 1e-6 a fusion of three keeps less than no training gives (docs/study.md)."""


def fused(
    ups: Sequence[Float64[np.ndarray, "n R"]], grams: Sequence[Float64[np.ndarray, "R R"]]
) -> Float64[np.ndarray, "n R"]:
    """Return U for each concept's U_i and G_i; a layer that sees nothing at all gets their sum."""
    gram = sum(grams, start=np.zeros_like(grams[0]))
    reached = np.count_nonzero(np.diag(gram))  # a file's padding is reached by nothing
    if not reached:
        return sum(ups, start=np.zeros_like(ups[0]))
    ridge = RIDGE * float(np.trace(gram)) / reached
    answers = (up @ seen for up, seen in zip(ups, grams, strict=True))
    wanted = sum(answers, start=np.zeros_like(ups[0]))
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), wanted.T).T


def error(
    whole: Float64[np.ndarray, "n R"],
    up: Float64[np.ndarray, "n R"],
    gram: Float64[np.ndarray, "R R"],
) -> tuple[float, float]:
    """Return tr((U - U_i) G_i (U - U_i)^T) and tr(U_i G_i U_i^T): what is off, and of how much."""
    off = whole - up
    return float(np.sum((off @ gram) * off)), float(np.sum((up @ gram) * up))
