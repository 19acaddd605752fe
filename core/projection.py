"""An ordinary LoRA's change of one layer, brought into a slot: the nearest A' behind a frozen B.

    minimise  E||(dW - A' B^T) x||^2      dW = up down,  x the layer's inputs
    A' = dW C B (B^T C B)^-1              C = E x x^T

Neither C nor anything else of m x m is formed. With s = [down x; B^T x] and the small Gram matrix
G = sum s s^T, both factors of A' and both traces are blocks of G:

    down C B = G_db,   B^T C B = G_bb,   tr(R C R^T) = tr(F G F^T),  F = [up, -A'],  R = dW - A' B^T

Source: method.md 7. Cost: O((R + r)^2) memory a layer. In PEFT's names down is `lora_A`, up is
`lora_B`. Not here: the activations (client/activations.py).
"""

import numpy as np
from jaxtyping import Float64

from .errors import InputError

RIDGE = 1e-6
"""Of the mean eigenvalue of B^T C B: a slot that no input reaches gets A' near 0, not infinity."""


def projected(
    up: Float64[np.ndarray, "n R"], gram: Float64[np.ndarray, "k k"]
) -> Float64[np.ndarray, "n r"]:
    """Return A' for the Gram matrix of [down x; B^T x]. Shapes: k = R + r.

    Raises InputError: a number is not finite, or G is no Gram matrix of this LoRA.
    """
    rank = up.shape[1]
    if gram.shape[0] <= rank or not (np.isfinite(gram).all() and np.isfinite(up).all()):
        raise InputError(
            f"a LoRA of rank {rank} with {gram.shape[0]} products that are not all finite",
            why="the nearest change in the slot is computed from them",
            fix="give a LoRA of this base whose weights are finite numbers",
            code="bad-adapter",
        )
    inside, across = gram[rank:, rank:], gram[:rank, rank:]
    size = float(np.trace(inside)) / len(inside)
    if size <= 0:
        return np.zeros((len(up), len(inside)))
    lower = np.linalg.cholesky(inside + RIDGE * size * np.eye(len(inside)))
    solved = np.linalg.solve(lower.T, np.linalg.solve(lower, across.T))
    return up @ solved.T


def energies(
    up: Float64[np.ndarray, "n R"],
    a: Float64[np.ndarray, "n r"],
    gram: Float64[np.ndarray, "k k"],
) -> tuple[float, float]:
    """Return tr(R C R^T) and tr(dW C dW^T); kept is 1 minus their ratio, sums over layers first."""
    both, rank = np.hstack([up, -a]), up.shape[1]
    lost = float(np.sum((both @ gram) * both))
    whole = float(np.sum((up @ gram[:rank, :rank]) * up))
    return max(lost, 0.0), max(whole, 0.0)
