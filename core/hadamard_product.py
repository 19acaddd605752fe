"""Hadamard columns times numbers, without the columns: H[:, picked] x in O(m (k + 8 log m)).

H is a Kronecker product, Sylvester's part in factors of 8 and less times a Paley core of order k,
so it is applied factor by factor to x set down in its ``picked`` rows. The cost does not depend on
how many columns are picked: a merge of sixteen concepts takes the time of a merge of one. Law: what
is multiplied and added is +1 or -1 times a sum over some of the columns, so with integers x and
sum |x| < 2^53 over each column of x, every step is exact and the answer is that of a plain product,
in any order and on any machine (method.md 3.2). Measured at m = 1280, one core: 3.3 ns an entry, a
plain product 8 ns for 240 columns. Not here: D's signs, which the caller multiplies on.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from .hadamard import core_order, hadamard_matrix

_RADIX = 8
_NUMBERS_AT_ONCE = 1 << 15  # two buffers of 256 KiB: within the second-level cache
_LEAST = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Factor:
    """One Kronecker factor: H = kron(I_left, matrix, I_right) at this step."""

    left: int
    matrix: Float64[np.ndarray, "r r"]
    right: int


class HadamardProduct:
    """Multiplies by the columns ``picked`` of H, of order ``width``, no two of them the same.

    Not for two threads at once: its answer lies in a buffer of its own until the next call.
    """

    __slots__ = ("_buffers", "_factors", "_picked", "batch", "width")

    def __init__(self, width: int, picked: Int64[np.ndarray, " c"]) -> None:
        """Lay out the factors; ``batch`` is how many columns x may have at once."""
        self.width = width
        self.batch = max(_LEAST, _NUMBERS_AT_ONCE // width)
        self._picked = picked
        self._factors = _factors(width)
        self._buffers = [np.empty(width * self.batch) for _ in range(2)]

    def __call__(self, x: Float64[np.ndarray, "c n"]) -> Float64[np.ndarray, "m n"]:
        """Return H[:, picked] x; x has at most ``batch`` columns."""
        count = x.shape[1]
        now, then = (flat[: self.width * count] for flat in self._buffers)
        now.fill(0.0)
        now.reshape(self.width, count)[self._picked] = x
        for factor in self._factors:
            shape = (factor.left, len(factor.matrix), factor.right * count)
            np.matmul(factor.matrix, now.reshape(shape), out=then.reshape(shape))
            now, then = then, now
        return now.reshape(self.width, count)


def _factors(width: int) -> list[_Factor]:
    """Split H into Sylvester's factors and the core, whose index runs fastest."""
    core = core_order(width)
    found: list[_Factor] = []
    left, rest = 1, width // core
    while rest > 1:
        radix = min(_RADIX, rest)
        rest //= radix
        found.append(_Factor(left, _matrix(radix), rest * core))
        left *= radix
    return [*found, _Factor(left, _matrix(core), 1)]


def _matrix(order: int) -> Float64[np.ndarray, "r r"]:
    return hadamard_matrix(order).astype(np.float64)
