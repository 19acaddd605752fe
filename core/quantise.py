"""A float32 tensor as 16-bit integers and one power of two, and back.

    A ~ q 2^e,    e = the smallest exponent of the window with round(max|A| 2^-e) <= 32767

Rounding is half to even; q is never -32768. Canonical, hence unique: e is the window's lowest or
max|q| >= 16384, and a receiver refuses the rest. NaN, Inf and denormals have no encoding (T7).
Source: method.md 3.1, security.md 6. Cost: two passes; relative error about 5e-5 for Gaussian A.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int16

from .errors import ContributionRejected, InputError

MAX_MANTISSA = 32767
NORMAL_MANTISSA = 16384
A_WINDOW = (-28, -16)
TOKEN_WINDOW = (-40, 0)
"""For token rows and probes, which are copied and never summed."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantised:
    """A tensor of value ``q`` x 2^``exponent``."""

    q: Int16[np.ndarray, "..."]
    exponent: int


def quantise(
    array: Float32[np.ndarray, "..."], *, low: int = A_WINDOW[0], high: int = A_WINDOW[1]
) -> Quantised:
    """Return ``array`` in normal form, its exponent within ``low``..``high``.

    >>> quantise(np.array([0.375, -0.05], dtype=np.float32))
    Quantised(q=array([24576, -3277], dtype=int16), exponent=-16)

    Raises InputError: a value that is not finite, or too large for the window.
    """
    exact = array.astype(np.float64)
    if not np.isfinite(exact).all():
        raise InputError(
            "a tensor with a value that is not finite",
            why="training diverged",
            fix="lower the learning rate and train again",
            code="not-finite",
        )
    peak = float(np.abs(exact).max(initial=0.0))
    for exponent in range(low, high + 1):
        if np.rint(np.ldexp(peak, -exponent)) <= MAX_MANTISSA:
            return Quantised(np.rint(np.ldexp(exact, -exponent)).astype(np.int16), exponent)
    raise InputError(
        f"a tensor with an entry of size {peak:.3g}, {np.ldexp(MAX_MANTISSA, high):.3g} at most",
        why="no exponent that the federation allows holds it",
        fix="lower the learning rate and train again",
        code="value-too-large",
    )


def dequantise(tensor: Quantised) -> Float32[np.ndarray, "..."]:
    """Return q 2^e in float32, which holds it exactly."""
    return np.ldexp(tensor.q.astype(np.float32), tensor.exponent).astype(np.float32)


def check_normal(
    q: Int16[np.ndarray, "..."], exponent: int, *, low: int, high: int, name: str = "a tensor"
) -> None:
    """Refuse what `quantise` would not have written, so that one value has one encoding.

    Raises ContributionRejected.
    """
    peak = max(int(q.max(initial=0)), -int(q.min(initial=0)))
    check_peak(peak, exponent, low=low, high=high, name=name)


def check_peak(peak: int, exponent: int, *, low: int, high: int, name: str = "a tensor") -> None:
    """Do as `check_normal` for a tensor whose largest |q| is ``peak``."""
    if not low <= exponent <= high:
        raise _rejected(f"{name} has exponent {exponent}", f"it is {low} to {high}")
    if peak > MAX_MANTISSA:
        raise _rejected(f"{name} holds -32768", f"integers are -{MAX_MANTISSA} to {MAX_MANTISSA}")
    if exponent != low and peak < NORMAL_MANTISSA:
        raise _rejected(
            f"{name} has largest integer {peak} at exponent {exponent}",
            f"above exponent {low} the largest is at least {NORMAL_MANTISSA}",
        )


def _rejected(what: str, why: str) -> ContributionRejected:
    return ContributionRejected(
        what,
        why=why,
        fix="pack the contribution again with this federation's orthofed",
        code="not-normal-form",
    )
