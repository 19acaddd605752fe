"""The spectral norm of a weight: what a layer can do to its input at most (T12).

Law: exact below 512 rows or columns; above, 64 power steps, which never give more than the norm.
Cost: one Gram matrix in float64. Source: security.md 8.
"""

import math

import numpy as np
from jaxtyping import Float

_POWER_STEPS = 64
_SMALL = 512


def spectral_norm(matrix: Float[np.ndarray, "_n _m"]) -> float:
    """Return the largest singular value, in float64.

    Exact below 512 rows or columns; above, 64 power steps, which never give more than the norm.
    """
    wide = matrix.astype(np.float64, copy=False)
    gram = wide @ wide.T if wide.shape[0] <= wide.shape[1] else wide.T @ wide
    if len(gram) <= _SMALL:
        return math.sqrt(max(0.0, float(np.linalg.eigvalsh(gram)[-1])))
    vector = np.cos(np.arange(len(gram), dtype=np.float64))
    for _ in range(_POWER_STEPS):
        grown = gram @ vector
        length = float(np.linalg.norm(grown))
        if length == 0.0:
            return 0.0
        vector = grown / length
    return math.sqrt(float(vector @ gram @ vector))
