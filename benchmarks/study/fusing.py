"""The one change of a layer that answers every concept's inputs as that concept's own would.

    U = argmin  sum_i tr((U R - dW_i) C_i (U R - dW_i)^T) + ridge ||U||^2      dW = U R

R has orthonormal rows: all of them (Mix-of-Show's fusion, arXiv 2305.18292, in closed form), or the
span of the concepts' own down sides. Without the ridge the few inputs that were recorded decide
what happens on all others: with 1e-6 three concepts keep less than no training would give.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
RIDGE = 0.1
"""Of the mean diagonal of sum_i C_i: of 1e-6, 1e-4, 1e-2, .1 and 1, what keeps most of two sets of
three with `lora`; a tenth or ten times that differs by .05 at most."""


def fused(changes: Sequence[Matrix], moments: Sequence[Matrix], rows: Matrix) -> Matrix:
    """Return U R: (n, m) of dW_i (n, m), C_i (m, m) and R (k, m)."""
    gram = np.sum(moments, axis=0)
    small = RIDGE * np.trace(gram) / len(gram) * np.eye(len(rows))
    wanted = sum(change @ c for change, c in zip(changes, moments, strict=True))
    return np.linalg.solve(rows @ gram @ rows.T + small, rows @ np.asarray(wanted).T).T @ rows


def spanned(down: Matrix) -> Matrix:
    """Return orthonormal rows with the span of those of ``down``, which may be the same r again."""
    _, values, rows = np.linalg.svd(down.astype(np.float64), full_matrices=False)
    return rows[values > values[0] * 1e-5]  # float32 came in
