"""The stacked LoRA of one layer: all concepts side by side, without multiplying them out.

    up = [.. l_i q_i 2^(e_i + k - 10) s ..] (n x R),    down = [.. 2^-k b_i^T ..] (R x m)

k is the least integer with 2 x 4^k >= m, so ``down`` is a power of two, exact in every type, and
orthogonality survives the cast; ``up`` rounds once. Other families: down = B^T, up = lambda A, each
rounded once. In PEFT's names down is `lora_A`, up is `lora_B`. Law: terms come in slot order, and a
subset's columns are the stacked file's, bit for bit. Source: method.md 3.3, formats.md 4. Cost:
O((n + m) R).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Shaped

from .basis import Family, scale
from .errors import SpecError
from .merge import Term
from .rounding import DType, round_once


def shift(width: int) -> int:
    """Return k, the least integer with 2 x 4^k >= ``width``.

    >>> [shift(m) for m in (320, 640, 768, 1280, 2048, 3072)]
    [4, 5, 5, 5, 5, 6]
    """
    k = 0
    while 2 * 4**k < width:
        k += 1
    return k


def stacked(
    terms: Sequence[Term],
    *,
    family: Family,
    width: int,
    out: int,
    rank: int | None = None,
    dtype: DType = "F16",
) -> tuple[Shaped[np.ndarray, "n R"], Shaped[np.ndarray, "R m"]]:
    """Return (up, down) for ``terms`` in slot order, padded with zeros to ``rank``.

    Shapes: n = ``out``, m = ``width``, R = ``rank`` or the sum of the terms' ranks.

    Raises SpecError: more columns than ``rank``. Raises OrthoFedError: a value beyond ``dtype``.
    """
    used = sum(term.q.shape[1] for term in terms)
    total = used if rank is None else rank
    if used > total:
        raise SpecError(
            f"{used} columns in a file of rank {total}",
            why="a file has one rank, the largest sum of ranks over its layers",
            fix="give the rank of the widest layer",
            code="rank-too-small",
        )
    up, down = np.zeros((out, total)), np.zeros((total, width))
    start = 0
    for term in terms:
        end = start + term.q.shape[1]
        up[:, start:end], down[start:end, :] = _parts(term, family, width)
        start = end
    return round_once(up, dtype), round_once(down, dtype)


def product(
    up: Float[np.ndarray, "n R"], down: Float[np.ndarray, "R m"]
) -> Float64[np.ndarray, "n m"]:
    """Return up x down in float64: what a loader adds to W."""
    return up.astype(np.float64) @ down.astype(np.float64)


def _parts(
    term: Term, family: Family, width: int
) -> tuple[Float64[np.ndarray, "n r"], Float64[np.ndarray, "r m"]]:
    """Return the term's columns of up and rows of down, before their one rounding."""
    factor = scale(family, width)
    weighted = term.q.astype(np.float64) * float(term.lambda_1024)  # an integer below 2^26
    if family == "hadamard":
        k = shift(width)
        up = weighted * np.ldexp(factor, term.exponent + k - 10)
        return up, np.ldexp(term.integers.T.astype(np.float64), -k)
    up = np.ldexp(weighted, term.exponent - 10)
    return up, term.integers.T.astype(np.float64) * factor
