"""Figures about a merge: crosstalk between weights, energy by slot, extraction, retention.

    crosstalk_ij = ||A_i B_i^T B_j|| / ||A_i||,   energy_t = ||dW B_t||^2,   A_i = dW B_i / lambda_i

Law: with disjoint slots of ``hadamard``, crosstalk is 0 for i != j and the energy of a free slot is
0, in integers (method.md 5); says nothing of activations (method.md 6).
Retention = (L_base - L_merged) / (L_base - L_single): 1 is as good merged as alone.
Cost: O(N^2 (n + m) r^2) for crosstalk, one product n x m x r a slot for the rest.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int, Int64, Num

from .errors import InputError


def weight_crosstalk(
    a: Sequence[Float[np.ndarray, "n _r"]], blocks: Sequence[Float[np.ndarray, "m _s"]]
) -> Float64[np.ndarray, "N N"]:
    """Return ||A_i B_i^T B_j||_F / ||A_i||_F for every pair of concepts in one layer.

    The diagonal is 1 for an orthonormal basis; a concept with A = 0 has a row of zeros.
    Raises InputError: not one block for each A.
    """
    _same_number(a, blocks)
    found = np.zeros((len(a), len(a)))
    exact = [block.astype(np.float64) for block in blocks]
    for i, one in enumerate(a):
        norm = float(np.linalg.norm(one.astype(np.float64)))
        for j, other in enumerate(exact):
            moved = one.astype(np.float64) @ (exact[i].T @ other)
            found[i, j] = float(np.linalg.norm(moved)) / norm if norm else 0.0
    return found


def total_crosstalk(
    layers: Iterable[
        tuple[Sequence[Float[np.ndarray, "_n _r"]], Sequence[Float[np.ndarray, "_m _s"]]]
    ],
) -> Float64[np.ndarray, "N N"]:
    """Return the crosstalk of whole concepts: energies summed over the layers, then the root."""
    moved, own = np.zeros((0, 0)), np.zeros(0)
    for a, blocks in layers:
        energy = np.array([float(np.sum(one.astype(np.float64) ** 2)) for one in a])
        part = weight_crosstalk(a, blocks) ** 2 * energy[:, None]
        moved, own = (moved + part, own + energy) if own.size else (part, energy)
    return np.sqrt(np.divide(moved, own[:, None], out=np.zeros_like(moved), where=own[:, None] > 0))


def energy_by_slot(
    residual: Float[np.ndarray, "n m"], blocks: Sequence[Float[np.ndarray, "m _r"]]
) -> Float64[np.ndarray, " N"]:
    """Return ||dW B_t||_F^2 for every slot's block; they sum to ||dW||^2 if no slot is left out."""
    exact = residual.astype(np.float64)
    return np.array([float(np.sum((exact @ block.astype(np.float64)) ** 2)) for block in blocks])


def extract(
    residual: Float64[np.ndarray, "n m"], block: Num[np.ndarray, "m r"], *, lambda_1024: int
) -> Float64[np.ndarray, "n r"]:
    """Return A_i = dW B_i / lambda_i: what anyone with base, seed and release can read back.

    ``block`` is B_i with orthonormal columns. Raises InputError: lambda 0 carries nothing.
    """
    if lambda_1024 <= 0:
        raise InputError(
            f"lambda {lambda_1024}/1024",
            why="a concept merged with weight 0 leaves no trace",
            fix="extract concepts with a weight of at least 1/1024",
            code="bad-lambda",
        )
    return residual @ block.astype(np.float64) * (1024.0 / lambda_1024)


def extract_integers(
    total: Int[np.ndarray, "n m"], block: Int[np.ndarray, "m r"]
) -> Int64[np.ndarray, "n r"]:
    """Return M b_i = m l_i 2^(e_i - e) q_i for a ``hadamard`` slot: zero where nobody is.

    Exact while 64 bits hold it: M below 2^52 and m up to 2^11; else give M in parts.
    """
    return total.astype(np.int64) @ block.astype(np.int64)


def retention(base: float, single: float, merged: float) -> float:
    """Return how much of a concept's gain over the base survives the merge.

    >>> retention(0.5, 0.3, 0.32)
    0.9

    Raises InputError: a loss that is not finite, or a concept that learnt nothing alone.
    """
    if not all(math.isfinite(loss) for loss in (base, single, merged)):
        raise InputError(
            f"losses {base}, {single}, {merged}",
            why="a loss is a finite number",
            fix="look for the step where training diverged",
            code="not-finite",
        )
    if base <= single:
        raise InputError(
            f"loss {single:.6g} with the concept, {base:.6g} without",
            why="what was not learnt cannot be retained",
            fix="train longer, or with a higher learning rate",
            code="nothing-learnt",
        )
    return round((base - merged) / (base - single), 12)


def _same_number(a: Sequence[object], blocks: Sequence[object]) -> None:
    if len(a) != len(blocks):
        raise InputError(
            f"{len(a)} A and {len(blocks)} blocks",
            why="each concept has one of each",
            fix="give the blocks of the same concepts, in the same order",
            code="shapes-differ",
        )
