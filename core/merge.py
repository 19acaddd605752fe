"""The merge: a sum in the integers, so that order cannot matter and removal is exact.

    M = sum_i (l_i 2^(e_i - e)) q_i b_i^T,    dW = float64(M) s 2^(e - 10),    e = min_i e_i

l_i = 1024 lambda_i, q_i and e_i the contribution's integers, b_i the slot's. Law: while
beta = sum_i r_i l_i 2^(e_i - e) max|q_i| max|b_i| < 2^53, every product and partial sum is a
float64, so any BLAS, order or thread count gives the same M; ``hadamard`` always qualifies up to
width 16384, also of two epochs (core/epochs.py). Below 2^63 the sum is made in int64 and rounds
once; beyond, the merge refuses.
Adding and removing one concept costs O(n m r), whatever is merged; memory is one layer's. In PEFT's
names q_i is `lora_B`, b_i^T is `lora_A`. Source: method.md 3.2, 3.3.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from .basis import Family, scale
from .errors import ContributionRejected, SpecError
from .hadamard import HadamardColumns
from .quantise import A_WINDOW, MAX_MANTISSA

MAX_LAMBDA = 2048
EXACT = 2**53
_INT64 = 2**63


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One concept's part of one layer: lambda A B^T = (``lambda_1024`` / 1024) 2^e q b^T s.

    ``block``: b's integers, or what determines them. ``largest``: no |q| is above it; of several
    owners' parts as one term (owners.py) q is wider than 16 bits, and holds their weights.
    """

    q: Int[np.ndarray, "n r"]
    exponent: int
    lambda_1024: int
    block: Int[np.ndarray, "m r"] | HadamardColumns
    largest: int = MAX_MANTISSA

    @property
    def integers(self) -> Int[np.ndarray, "m r"]:
        """B's integers."""
        return self.block.integers() if isinstance(self.block, HadamardColumns) else self.block

    def weight(self, low: int) -> int:
        """Return beta's part at exponent ``low``: no entry or partial sum of it is larger."""
        sign = 1 if isinstance(self.block, HadamardColumns) else _peak(self.block)
        factor = self.lambda_1024 << (self.exponent - low)
        return self.q.shape[1] * factor * _peak(self.q) * sign

    def check(self, out: int, width: int, window: tuple[int, int]) -> None:
        """Refuse a term that is not of this layer or breaks the bounds of the law.

        Raises SpecError, ContributionRejected.
        """
        if self.q.shape[0] != out or self.block.shape != (width, self.q.shape[1]):
            raise SpecError(
                f"A {self.q.shape} and B {self.block.shape} in a {out} x {width} layer",
                why="A is out x rank and B is width x rank",
                fix="merge contributions of this federation's spec only",
                code="shapes-differ",
            )
        low, high = window
        if not low <= self.exponent <= high or int(self.q.min(initial=0)) < -self.largest:
            raise ContributionRejected(
                f"exponent {self.exponent}, smallest integer {int(self.q.min(initial=0))}",
                why=f"exponents are {low} to {high}, integers at least -{self.largest}",
                fix="pack the contribution again with this federation's orthofed",
                code="not-normal-form",
            )
        if not 0 <= self.lambda_1024 <= MAX_LAMBDA:
            raise SpecError(
                f"lambda {self.lambda_1024}/1024",
                why=f"a merge weight is 0 to {MAX_LAMBDA} 1024ths",
                fix=f"give a whole number of 1024ths from 0 to {MAX_LAMBDA}",
                code="bad-lambda",
            )


class LayerSum:
    """M of one layer, to which concepts are added and from which they are removed, exactly."""

    __slots__ = ("_beta", "_exponents", "_low", "_sum", "family", "out", "width", "window")

    def __init__(
        self, out: int, width: int, family: Family, *, window: tuple[int, int] = A_WINDOW
    ) -> None:
        """Start with nothing merged: n = ``out``, m = ``width``."""
        self.out = out
        self.width = width
        self.family: Family = family
        self.window = window
        self._exponents: Counter[int] = Counter()
        self._low = window[1]
        self._beta = 0  # in units of the window's lowest exponent
        self._sum: Float64[np.ndarray, "n m"] | Int[np.ndarray, "n m"] = np.zeros((out, width))

    def add(self, *terms: Term) -> None:
        """Add concepts. Several at once cost one matrix product.

        Raises SpecError: a term of other shapes, or sums beyond 63 bits. Raises
        ContributionRejected: an exponent outside the window, or -32768.
        """
        self._change(terms, sign=1)

    def remove(self, *terms: Term) -> None:
        """Take back concepts that were added with the same terms: M is as if they never came."""
        self._change(terms, sign=-1)

    def integers(self, exponent: int | None = None) -> Int[np.ndarray, "n m"]:
        """Return M in units of 2^(exponent - 10) s; by default at the smallest exponent merged.

        Raises SpecError: an exponent above that one, where M would be no integer.
        """
        wanted = self._low if exponent is None else exponent
        shift = self._low - wanted
        if shift < 0 or self._beta_at(wanted) >= _INT64:
            raise SpecError(
                f"M at exponent {wanted}",
                why=f"it is an integer of 63 bits at {self._low} and a little below",
                fix=f"ask for exponent {self._low}",
                code="bad-exponent",
            )
        return self._sum.astype(np.int64) << np.int64(shift)

    def residual(self) -> Float64[np.ndarray, "n m"]:
        """Return dW = float64(M) s 2^(e - 10)."""
        exact = self._sum.astype(np.float64, copy=False)  # an int64 M rounds here, once
        # One product: scaling by a power of two is exact and commutes with the rounding.
        return exact * (scale(self.family, self.width) * 2.0 ** (self._low - 10))

    def _change(self, terms: Sequence[Term], *, sign: int) -> None:
        """Add or subtract the terms' integers, after every check has passed."""
        if not terms:
            return
        for term in terms:
            term.check(self.out, self.width, self.window)
        weight = sum(term.weight(self.window[0]) for term in terms)
        exponents = self._exponents.copy()
        for term in terms:
            exponents[term.exponent] += sign
        if any(count < 0 for count in exponents.values()) or self._beta + sign * weight < 0:
            raise SpecError(
                f"{len(terms)} concepts removed that were not merged",
                why="only what was added can be taken back",
                fix="remove with the same integers, lambda and block as were added",
                code="not-merged",
            )
        # While both are in the sum, the smallest exponent of the two states must be an integer.
        reached = min([self._low, *(term.exponent for term in terms)])
        total = self._beta + weight if sign > 0 else self._beta
        beta = total >> (reached - self.window[0])
        if beta >= _INT64:
            raise SpecError(
                f"a sum of up to {beta.bit_length()} bits",
                why="more than 63 bits are not summed exactly",
                fix="merge fewer concepts, or a smaller lambda",
                code="sum-too-wide",
            )
        self._rescale(reached)
        kind = np.float64 if beta < EXACT else np.int64
        q = np.concatenate([term.q * _weight(term, reached, kind) for term in terms], axis=1)
        b = np.concatenate([term.integers.astype(kind) for term in terms], axis=1)
        product = (q if sign > 0 else -q) @ b.T
        if self._beta == 0:  # nothing merged: M is 0
            product += 0  # makes every -0.0 a 0.0, as any later sum would
            self._sum = product
        else:
            self._sum = self._sum.astype(kind, copy=False)
            self._sum += product
        self._beta += sign * weight
        self._exponents = +exponents
        self._rescale(min(self._exponents, default=self.window[1]))
        if self._beta_at(self._low) < EXACT:
            self._sum = self._sum.astype(np.float64, copy=False)

    def _beta_at(self, exponent: int) -> int:
        shift = exponent - self.window[0]
        return self._beta >> shift if shift >= 0 else self._beta << -shift

    def _rescale(self, exponent: int) -> None:
        """Express M at ``exponent``: a multiplication or an exact division by a power of two."""
        shift = self._low - exponent
        self._low = exponent
        if shift == 0:
            return
        if self._sum.dtype == np.float64:
            self._sum *= 2.0**shift
        else:
            self._sum = self._sum << shift if shift > 0 else self._sum >> -shift


def residual(
    terms: Sequence[Term],
    *,
    family: Family,
    width: int,
    out: int,
    window: tuple[int, int] = A_WINDOW,
) -> Float64[np.ndarray, "n m"]:
    """Return dW of one layer with all ``terms``, in any order; zeros for none."""
    total = LayerSum(out, width, family, window=window)
    total.add(*terms)
    return total.residual()


def _weight(term: Term, low: int, kind: type[np.float64 | np.int64]) -> np.float64 | np.int64:
    """Return l 2^(e_i - e), at most 2^23: exact in both types."""
    return kind(term.lambda_1024 << (term.exponent - low))


def _peak(values: Int[np.ndarray, "..."]) -> int:
    """Return the largest absolute value."""
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))
