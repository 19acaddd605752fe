"""One adapted weight of a full checkpoint, a few rows at a time.

    cast(float64(W) + dW),    dW as in merge.py, one rounding

With ``hadamard`` blocks the sum is made in O's own columns and turned into the layer's inputs by
HadamardProduct, some rows at a time: time does not grow with the number of concepts, and no n x m
matrix but the answer is made. Law: the bytes are those of ``apply(W, residual(terms))``, which
other families, sums beyond 53 bits and repeated columns still take. Source: method.md 3.2, 3.3.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from .basis import Family, scale
from .hadamard import HadamardColumns
from .hadamard_product import HadamardProduct
from .merge import EXACT, Term, residual
from .quantise import A_WINDOW
from .rounding import DType, apply, exact, round_once


def merged_weight(
    weight: Shaped[np.ndarray, "n m"],
    terms: Sequence[Term],
    *,
    family: Family,
    dtype: DType,
    window: tuple[int, int] = A_WINDOW,
) -> Shaped[np.ndarray, "n m"]:
    """Return W + dW with all ``terms``, in any order, in W's own ``dtype``; BF16 as uint16.

    Raises SpecError, ContributionRejected: as ``LayerSum.add``. Raises OrthoFedError: overflow.
    """
    out, width = weight.shape
    blocks = [term.block for term in terms if isinstance(term.block, HadamardColumns)]
    low = min((term.exponent for term in terms), default=window[1])
    if len(blocks) == len(terms) > 0:
        for term in terms:
            term.check(out, width, window)
        picked = np.concatenate([block.picked for block in blocks])
        if _one_basis(blocks, picked) and _largest_sum(terms, low) < EXACT:
            signed = blocks[0].signs * (scale(family, width) * 2.0 ** (low - 10))
            merged = np.empty_like(weight)
            for rows, change in _changes(terms, low, picked, signed):
                # dW's zeros are 0.0 in the law and may be -0.0 here: + 0.0 first, so none shows.
                values = exact(weight[rows], dtype) + 0.0
                values += change
                merged[rows] = round_once(values, dtype)
            return merged
    change = residual(terms, family=family, width=width, out=out, window=window)
    return apply(weight, change, dtype)


def _changes(
    terms: Sequence[Term],
    low: int,
    picked: Int64[np.ndarray, " c"],
    signed: Float64[np.ndarray, " m"],
) -> Iterator[tuple[slice, Float64[np.ndarray, "_n m"]]]:
    """Give dW some rows at a time: M^T = D H[:, picked] (l 2^(e_i - e) q_i)^T, scaled."""
    out = len(terms[0].q)
    numbers = np.empty((len(picked), out))
    start = 0
    for term in terms:
        end = start + term.q.shape[1]
        factor = float(term.lambda_1024 << (term.exponent - low))
        np.multiply(term.q.T, factor, out=numbers[start:end])
        start = end
    product = HadamardProduct(len(signed), picked)
    for first in range(0, out, product.batch):
        rows = slice(first, first + product.batch)
        yield rows, product(numbers[:, rows]).T * signed


def _largest_sum(terms: Sequence[Term], low: int) -> int:
    """Return a bound of beta from the format alone: looking for the peaks costs two passes."""
    return sum(
        term.q.shape[1] * (term.lambda_1024 << (term.exponent - low)) * term.largest
        for term in terms
    )


def _one_basis(blocks: Sequence[HadamardColumns], picked: Int64[np.ndarray, " c"]) -> bool:
    """Return whether the blocks are different columns of one layer's O."""
    first = blocks[0].signs
    return all(
        block.signs is first or np.array_equal(block.signs, first) for block in blocks
    ) and len(np.unique(picked)) == len(picked)
