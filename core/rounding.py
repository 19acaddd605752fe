"""Float64 to the types of a checkpoint and back: rounded once, and never to an infinity.

Laws: a value goes from float64 straight to its type, half to even, so 1 + 2^-11 + 2^-40 is
1.0009765625 in F16, and not 1 as by way of float32; a value beyond the type's range is an error.
BF16 is held as uint16. Source: method.md 3.3. Cost: a few passes.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64, Shaped

from .errors import OrthoFedError

DType = Literal["F32", "F16", "BF16"]
_NUMPY = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_EXPONENT = {"F16": np.uint16(0x7C00), "BF16": np.uint16(0x7F80)}
_BF16_MAX = float(np.ldexp(255.0, 120))
_BF16_SMALLEST_NORMAL = 2.0**-126
_BF16_DROPPED = np.uint64(45)  # of float64's 52 mantissa bits, 7 stay
_BF16_HALF = np.uint64(1 << 44)


def round_once(values: Float64[np.ndarray, "..."], dtype: DType) -> Shaped[np.ndarray, "..."]:
    """Return ``values`` in ``dtype``: float64 straight to the type, half to even; BF16 as uint16.

    Raises OrthoFedError: a value that is not finite, or beyond the type's range.
    """
    with np.errstate(over="ignore"):  # looked for below, in every type alike
        if dtype == "BF16":
            rounded, finite = _bfloat16(values)
        else:
            rounded = values.astype(_NUMPY[dtype])
            finite = all_finite(rounded, dtype)
    if not finite:
        raise OrthoFedError(
            f"a value that {dtype} does not hold",
            why="a merged weight is too large, or not finite",
            fix="merge with a smaller lambda, or leave out the concept with the largest norm",
            code="weight-overflow",
        )
    return rounded


def apply(
    weight: Shaped[np.ndarray, "n m"], residual: Float64[np.ndarray, "n m"], dtype: DType
) -> Shaped[np.ndarray, "n m"]:
    """Return float64(W) + dW, rounded once to ``dtype``, which is also W's own type.

    BF16 is held as uint16 on both sides. Raises OrthoFedError: overflow.
    """
    return round_once(exact(weight, dtype) + residual, dtype)


def exact(weight: Shaped[np.ndarray, "*s"], dtype: DType) -> Float64[np.ndarray, "*s"]:
    """Return the stored weight in float64, which holds each of the types exactly."""
    if dtype == "BF16":
        bits = np.asarray(weight.astype(np.uint32) << 16)  # of a single number numpy makes a scalar
        return np.asarray(bits.view(np.float32).astype(np.float64))
    return weight.astype(np.float64)


def all_finite(values: Shaped[np.ndarray, "..."], dtype: str) -> bool:
    """Return whether no stored value is infinite or NaN; 16-bit types by their exponent's bits.

    numpy's own test takes ten times as long on F16, and does not know BF16.
    """
    ones = _EXPONENT.get(dtype)
    if ones is None:
        return bool(np.isfinite(values).all())
    return bool(((values.view("<u2") & ones) != ones).all())


def num_not_finite(values: Shaped[np.ndarray, "..."], dtype: str) -> int:
    """Return how many stored values are infinite or NaN; mostly the cost of `all_finite`."""
    if all_finite(values, dtype):
        return 0
    ones = _EXPONENT.get(dtype)
    if ones is None:
        return int(np.count_nonzero(~np.isfinite(values)))
    return int(np.count_nonzero((values.view("<u2") & ones) == ones))


def _bfloat16(values: Float64[np.ndarray, "..."]) -> tuple[Shaped[np.ndarray, "..."], bool]:
    """Round float64 to bfloat16's grid in one step, then keep the upper half of a float32.

    Also return whether every value is finite in that type.
    """
    bits = np.ascontiguousarray(values).view(np.uint64)
    half_to_even = (bits >> _BF16_DROPPED) & np.uint64(1)
    kept = (bits + (_BF16_HALF - np.uint64(1)) + half_to_even) >> _BF16_DROPPED << _BF16_DROPPED
    rounded = kept.view(np.float64)
    small = np.abs(values) < _BF16_SMALLEST_NORMAL  # where the grid no longer shrinks
    if small.any():
        rounded = np.where(small, np.rint(values * 2.0**133) * 2.0**-133, rounded)
    finite = bool((np.abs(rounded) <= _BF16_MAX).all())  # False for NaN, too
    stored = (rounded.astype("<f4").view("<u4") >> 16).astype("<u2")
    return stored.reshape(values.shape), finite  # a single number had become a row of one
