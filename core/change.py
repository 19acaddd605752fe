"""What was done to one layer's weight, as a LoRA's two factors or as two weights.

    M = scale up down (LoRA),    M = W' - W (checkpoint)

Each says its energy ||M||_F^2, its product with a block, what of it lies outside a span, and the
**floor**: the most that rounding to its type alone can put there, as a norm, the type being the
coarsest that holds every number. No floor is a chosen number. LoRA: an entry of ``up`` is off by
u |up|, u half a unit in the last place, and half a subnormal step below that; ``down`` is exact if
all its entries are one power of two in size (method.md 3.3), else ||up||_2 u ||down||_F bounds its
share. Checkpoint: an entry is off by half its own unit h. W lies on the grid that W' is rounded
to, so entries of one row that moved alike, up to a sign, may be off alike, and a block of +1 and -1
has few ways to move: their errors add in full, those of others as independent ones do,

    sqrt(sum over rows and groups (sum h |b|)^2) <= sqrt(sum h s b^2),   s: the sum of a group's h

An entry that did not move may have swallowed its whole change, so it counts in full. Float64's own
(m + R) 2^-53 is added. In PEFT's names down is `lora_A`, up is `lora_B`.
Source: method.md 3.3 and 5. Cost: LoRA O((n + m) R c), never n x m; checkpoint one n x m matrix.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from .rounding import DType, exact

_HALF_ULP = {"F16": 2.0**-11, "BF16": 2.0**-8, "F32": 2.0**-24}
_HALF_SUBNORMAL = {"F16": 2.0**-25, "BF16": 2.0**-134, "F32": 2.0**-150}
_FLOAT64 = 2.0**-53
_ENTRIES_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """scale x up x down, as a file holds them in ``dtype``; values in float64.

    ``whole``: ``down`` as the file has it, where this is an ``outside`` of it.
    """

    up: Float64[np.ndarray, "n R"]
    down: Float64[np.ndarray, "R m"]
    dtype: DType
    scale: float = 1.0
    whole: Float64[np.ndarray, "R m"] | None = None

    @property
    def energy(self) -> float:
        """||M||_F^2, by R x R matrices."""
        product = np.sum((self.up.T @ self.up) * (self.down @ self.down.T))
        return float(max(product, 0.0)) * self.scale**2

    def times(self, b: Float64[np.ndarray, "m c"]) -> Float64[np.ndarray, "n c"]:
        """Return M b."""
        return self.up @ (self.down @ b) * self.scale

    def outside(
        self, b: Float64[np.ndarray, "m c"], inverse: Float64[np.ndarray, "c c"]
    ) -> "LowRank":
        """Return M - M b inverse b^T."""
        rest = self.down - (self.down @ b) @ inverse @ b.T
        return LowRank(self.up, rest, self.dtype, self.scale, self.down)

    def off(self, up: Float64[np.ndarray, "n c"], down: Float64[np.ndarray, "c m"]) -> float:
        """Return ||M - up down||_F; makes n x m."""
        return float(np.linalg.norm(self.up @ self.down * self.scale - up @ down))

    def floor(
        self, b: Float64[np.ndarray, "m c"], *, size: float = 1.0, condition: float = 1.0
    ) -> float:
        """Return the norm that rounding alone can give M b.

        ``size``: ||b||_2. ``condition``: of what b was computed from, which float64 loses that much
        more of.
        """
        return self._floor(self.down @ b, size, condition)

    def floor_outside(self, *, condition: float = 1.0) -> float:
        """Return the norm that rounding alone can leave here."""
        return self._floor(self.down, 1.0, condition)

    def _floor(self, seen: Float64[np.ndarray, "R c"], b_size: float, condition: float) -> float:
        down = self.down if self.whole is None else self.whole
        entry = _HALF_ULP[self.dtype] * np.abs(self.up) + _HALF_SUBNORMAL[self.dtype]
        of_up = float(np.linalg.norm(entry @ np.abs(seen)))
        size = float(np.linalg.norm(down))
        of_down = 0.0 if _is_exact(down) else _HALF_ULP[self.dtype] * _spectral(self.up) * size
        steps = down.shape[0] + down.shape[1]
        own = steps * _FLOAT64 * float(np.linalg.norm(self.up)) * size
        return (of_up + (of_down + own * condition) * b_size) * abs(self.scale)


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """W' - W in float64; ``half``: half a unit in the last place of each entry of W'.

    ``alike``: by entry, the sum of ``half`` over those of its row that moved as it did; 0 where it
    did not move.
    """

    change: Float64[np.ndarray, "n m"]
    half: Float64[np.ndarray, "n m"]
    alike: Float64[np.ndarray, "n m"]

    @classmethod
    def between(
        cls,
        before: Shaped[np.ndarray, "n m"],
        after: Shaped[np.ndarray, "n m"],
        *,
        dtypes: tuple[DType, DType],
    ) -> "Dense":
        """Return the change from W to W', each as stored in its own type; BF16 as uint16."""
        then, now = exact(before, dtypes[0]), exact(after, dtypes[1])
        change, half = now - then, half_units(now, held_in(now, dtypes[1]))
        return cls(change, half, _alike(change, half))

    @property
    def energy(self) -> float:
        """||M||_F^2."""
        return float(np.sum(self.change**2))

    def times(self, b: Float64[np.ndarray, "m c"]) -> Float64[np.ndarray, "n c"]:
        """Return M b."""
        return self.change @ b

    def outside(
        self, b: Float64[np.ndarray, "m c"], inverse: Float64[np.ndarray, "c c"]
    ) -> "Dense":
        """Return M - M b inverse b^T."""
        return Dense(self.change - (self.change @ b) @ inverse @ b.T, self.half, self.alike)

    def off(self, up: Float64[np.ndarray, "n c"], down: Float64[np.ndarray, "c m"]) -> float:
        """Return ||M - up down||_F."""
        return float(np.linalg.norm(self.change - up @ down))

    def floor(
        self, b: Float64[np.ndarray, "m c"], *, size: float = 1.0, condition: float = 1.0
    ) -> float:
        """Return the norm that rounding alone can give M b; arguments as ``LowRank.floor``."""
        weights = np.sum(b**2, axis=1)
        moved = np.sqrt(np.sum((self.half * self.alike) @ weights))
        swallowed = np.linalg.norm(np.where(self.alike, 0.0, self.half))
        return float(moved) + (float(swallowed) + self._own() * condition) * size

    def floor_outside(self, *, condition: float = 1.0) -> float:
        """Return the norm that rounding alone can leave here."""
        return float(np.linalg.norm(self.half)) + self._own() * condition

    def _own(self) -> float:
        return self.change.shape[1] * _FLOAT64 * float(np.sqrt(self.energy))


def _alike(
    change: Float64[np.ndarray, "n m"], half: Float64[np.ndarray, "n m"]
) -> Float64[np.ndarray, "n m"]:
    """Return ``Dense.alike``, some rows at a time: sorting takes several copies of them."""
    found = np.empty_like(half)
    rows = max(1, _ENTRIES_AT_ONCE // change.shape[1])
    for start in range(0, len(change), rows):
        some = slice(start, start + rows)
        size = np.abs(change[some])
        order = np.argsort(size, axis=1)
        size = np.take_along_axis(size, order, axis=1)
        first = np.ones(size.shape, dtype=bool)
        first[:, 1:] = size[:, 1:] != size[:, :-1]
        starts = np.flatnonzero(first)
        halves = np.where(size > 0, np.take_along_axis(half[some], order, axis=1), 0.0).ravel()
        sums = np.repeat(np.add.reduceat(halves, starts), np.diff(starts, append=halves.size))
        np.put_along_axis(found[some], order, sums.reshape(size.shape), axis=1)
    return found


def held_in(values: Float64[np.ndarray, "*s"], dtype: DType) -> DType:
    """Return the coarsest type that holds every value: what they were rounded to, once.

    A file of 32 bits may be a copy of one of 16, and then has its errors.

    >>> held_in(np.array([1 + 2.0**-10, 0.0]), "F32"), held_in(np.array([1 + 2.0**-20]), "F32")
    ('F16', 'F32')
    """
    for coarse in ("BF16", "F16"):
        if _HALF_ULP[coarse] > _HALF_ULP[dtype] and np.array_equal(
            _through(values, coarse), values
        ):
            return coarse
    return dtype


Change = LowRank | Dense
"""One layer's M and what rounding may have done to it."""


def half_units(values: Float64[np.ndarray, "*s"], dtype: DType) -> Float64[np.ndarray, "*s"]:
    """Return half a unit in the last place of each value of ``dtype``.

    >>> half_units(np.array([1.0, 0.0]), "F16").tolist() == [2.0**-11, 2.0**-25]
    True
    """
    size = np.abs(values)
    _, exponent = np.frexp(size)  # size = f 2^exponent, f from 1/2 to 1
    unit = np.ldexp(_HALF_ULP[dtype], exponent - 1)
    return np.maximum(np.where(size > 0, unit, 0.0), _HALF_SUBNORMAL[dtype])


def _through(values: Float64[np.ndarray, "*s"], dtype: DType) -> Float64[np.ndarray, "*s"]:
    """Return the values as ``dtype`` holds them; infinities where it does not."""
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).astype(np.float64)
    kept = values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return kept.view(np.float32).astype(np.float64)


def _is_exact(down: Float64[np.ndarray, "R m"]) -> bool:
    """Return whether every entry that is not 0 is one power of two in size: then no type rounds."""
    size = float(np.abs(down).max(initial=0.0))
    mantissa, _ = np.frexp(size)
    return size == 0.0 or (float(mantissa) == 0.5 and bool(np.isin(down, (0.0, size, -size)).all()))  # noqa: PLR2004  # frexp of a power of two


def _spectral(up: Float64[np.ndarray, "n R"]) -> float:
    """Return ||up||_2."""
    gram = up.T @ up if up.shape[1] <= up.shape[0] else up @ up.T
    return float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0.0)))
