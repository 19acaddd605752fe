"""What concepts do to each other, in weights and on each other's inputs.

    weights      ||dW_i dW_j^T|| / (||dW_i|| ||dW_j||), mean over layers and pairs (paper, Fig 9)
    functional   || sum_{j != i} dW_j X_i || / || dW_i X_i ||, mean over i         (method.md 6.1)

The second's squares are summed over all layers before the root. X_i: the layer's inputs while
concept i's own model draws it, by their second moments C_i: ||dW X||^2 = tr(dW C dW^T).
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.linalg import norm

from orthofed.client.variant import Residual, Variant

from .blocks import Matrix


def weights(parts: Sequence[Variant]) -> float:
    """Return the mean over pairs; 0 for slots that share no direction."""
    found = []
    for one, other in combinations(parts, 2):
        for path, residual in one.residuals.items():
            a, b = _whole(residual), _whole(other.residuals[path])
            found.append(norm(a @ b.T) / (norm(a) * norm(b)))
    return float(np.mean(found))


def functional(parts: Sequence[Variant], inputs: Sequence[Mapping[str, Matrix]]) -> float:
    """Return the mean over the concepts; ``inputs``: C of every layer for each of ``parts``."""
    found = []
    for i, part in enumerate(parts):
        others = own = 0.0
        for path, residual in part.residuals.items():
            gram = inputs[i][path]
            rest = sum(_whole(p.residuals[path]) for j, p in enumerate(parts) if j != i)
            others += _energy(np.asarray(rest), gram)
            own += _energy(_whole(residual), gram)
        found.append(np.sqrt(others / own))
    return float(np.mean(found))


def _whole(residual: Residual) -> Matrix:
    return residual.up.astype(np.float64) @ residual.down


def _energy(change: Matrix, gram: Matrix) -> float:
    return float(np.sum((change @ gram) * change))
