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
    return float(np.mean([*weights_by_layer(parts).values()]))


def weights_by_layer(parts: Sequence[Variant]) -> dict[str, float]:
    """Return the mean over pairs for each layer."""
    found = dict[str, list[float]]()
    for one, other in combinations(parts, 2):
        for path, residual in one.residuals.items():
            a, b = _whole(residual), _whole(other.residuals[path])
            found.setdefault(path, []).append(float(norm(a @ b.T) / (norm(a) * norm(b))))
    return {path: float(np.mean(some)) for path, some in found.items()}


def functional(parts: Sequence[Variant], inputs: Sequence[Mapping[str, Matrix]]) -> float:
    """Return the mean over the concepts; ``inputs``: C of every layer for each of ``parts``."""
    return _ratio(_energies(parts, inputs))


def functional_by_layer(
    parts: Sequence[Variant], inputs: Sequence[Mapping[str, Matrix]]
) -> dict[str, float]:
    """Return the mean over the concepts for each layer."""
    found = _energies(parts, inputs)
    return {path: _ratio([{path: each[path]} for each in found]) for path in found[0]}


def _energies(
    parts: Sequence[Variant], inputs: Sequence[Mapping[str, Matrix]]
) -> list[dict[str, tuple[float, float]]]:
    """Return for each concept, by layer, what the others do on its inputs and what it does."""
    found = []
    for i, part in enumerate(parts):
        by_layer = {}
        for path, residual in part.residuals.items():
            rest = sum(_whole(p.residuals[path]) for j, p in enumerate(parts) if j != i)
            gram = inputs[i][path]
            by_layer[path] = _energy(np.asarray(rest), gram), _energy(_whole(residual), gram)
        found.append(by_layer)
    return found


def _ratio(by_concept: Sequence[Mapping[str, tuple[float, float]]]) -> float:
    """Return the mean of the roots of summed squares over summed squares."""
    sums = [np.sum([*each.values()], axis=0) for each in by_concept]
    return float(np.mean([np.sqrt(others / own) for others, own in sums]))


def _whole(residual: Residual) -> Matrix:
    return residual.up.astype(np.float64) @ residual.down


def _energy(change: Matrix, gram: Matrix) -> float:
    return float(np.sum((change @ gram) * change))
