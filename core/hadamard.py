"""The default basis: signed, permuted Hadamard columns, in integers.

    O = D H P / sqrt(m),    b_i = sqrt(m) B_i has entries +1 and -1

H has order m = k 2^s, with a Paley core of order k over a prime (I before II) doubled by Sylvester;
the signs D and the permutation P come from one SHAKE-256 stream over (seed, m, path). Law, exactly:
b_i^T b_j = m [i = j] I. Source: method.md 2.2. Cost: O(m) for the permutation, once a layer (the
last ones are kept), and O(m r) for r columns; no m x m matrix is ever formed.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int8, Int64, UInt16

from .errors import SpecError
from .layer import MAX_WIDTH
from .stream import Stream

_TOGETHER = 32


def supported(width: int) -> bool:
    """Return whether a Hadamard matrix of order ``width`` is known here.

    >>> supported(320), supported(1152), supported(6)
    (True, True, False)
    """
    return 1 <= width <= MAX_WIDTH and _core(width) is not None


@dataclass(frozen=True, slots=True, eq=False)
class HadamardColumns:
    """Some columns of sqrt(m) O by what determines them: D's diagonal and their places in H."""

    signs: Int8[np.ndarray, " m"]
    picked: Int64[np.ndarray, " c"]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the integers: (m, c)."""
        return len(self.signs), len(self.picked)

    def integers(self) -> Int8[np.ndarray, "m c"]:
        """Return the columns: entries +1 and -1."""
        width = len(self.signs)
        order, q = _known_core(width)
        return self.signs[:, None] * _columns(width, order, q, self.picked)


def integers_together(
    wanted: Sequence[HadamardColumns],
) -> Iterator[Int8[np.ndarray, "_m _c"]]:
    """Yield ``integers()`` of each; neighbours of one width in one go: they are many and small."""
    for width, neighbours in itertools.groupby(wanted, lambda each: len(each.signs)):
        layers = list(neighbours)
        order, q = _known_core(width)
        for start in range(0, len(layers), _TOGETHER):
            some = layers[start : start + _TOGETHER]
            columns = _columns(width, order, q, np.concatenate([each.picked for each in some]))
            at = 0
            for each in some:
                yield each.signs[:, None] * columns[:, at : at + len(each.picked)]
                at += len(each.picked)


def hadamard_columns(
    width: int, columns: Sequence[int], *, seed: bytes, layer: str
) -> HadamardColumns:
    """Return the asked-for columns of sqrt(m) O; nothing of their length but D is made.

    Raises SpecError: no Hadamard matrix of that order is known, or a column is outside it.
    """
    if not supported(width):
        raise SpecError(
            f"no Hadamard matrix of order {width} is known here ({layer})",
            why="the orders that work are powers of two and multiples of 4 with a Paley core",
            fix="choose the basis family 'haar' or 'gaussian', which take any width",
            code="width-not-supported",
        )
    if columns and not 0 <= min(columns) <= max(columns) < width:
        raise SpecError(
            f"columns {min(columns)} to {max(columns)} of {layer}",
            why=f"the layer has the columns 0 to {width - 1}",
            fix="lease a slot below the federation's capacity",
            code="no-such-column",
        )
    signs, order = _draw(seed, layer, width)
    return HadamardColumns(signs, order[np.asarray(columns, dtype=np.int64)].astype(np.int64))


def hadamard_signs(
    width: int, columns: Sequence[int], *, seed: bytes, layer: str
) -> Int8[np.ndarray, "m c"]:
    """Return sqrt(m) times the asked-for columns of O: entries +1 and -1.

    Shapes: m = ``width``, c = len(columns).

    >>> hadamard_signs(4, [0, 1], seed=bytes(range(32)), layer="unet.test").T.tolist()
    [[1, -1, -1, -1], [1, -1, 1, 1]]

    Raises SpecError, as ``hadamard_columns``.
    """
    return hadamard_columns(width, columns, seed=seed, layer=layer).integers()


def core_order(width: int) -> int:
    """Return k, the order of the core that is doubled to ``width``, which is a known order.

    >>> core_order(320), core_order(1024), core_order(1152)
    (20, 1, 36)
    """
    return _known_core(width)[0]


def hadamard_matrix(order: int) -> Int8[np.ndarray, "k k"]:
    """Return H of a small known order, whole: a factor of the larger ones."""
    return _columns(order, *_known_core(order), np.arange(order, dtype=np.int64))


@lru_cache(maxsize=1024)  # 3 bytes an input; SDXL's attention has 736 layers
def _draw(
    seed: bytes, layer: str, width: int
) -> tuple[Int8[np.ndarray, " m"], UInt16[np.ndarray, " m"]]:
    """Return D's diagonal and P's permutation; callers must not write to them."""
    stream = Stream("hadamard", seed, width, path=layer)
    raw = np.frombuffer(stream.bytes((width + 7) // 8), dtype=np.uint8)
    negative = np.unpackbits(raw, bitorder="little")[:width].astype(np.int8)
    order = list(range(width))
    places = stream.below(np.arange(width, 1, -1, dtype=np.int64)).tolist()
    for i, j in zip(range(width - 1, 0, -1), places, strict=True):
        order[i], order[j] = order[j], order[i]
    signs, permutation = 1 - 2 * negative, np.array(order, dtype=np.uint16)
    signs.flags.writeable = permutation.flags.writeable = False
    return signs, permutation


@lru_cache(maxsize=4096)
def _core(width: int) -> tuple[int, int] | None:
    """Return (base order k, prime q) of H's core, or None; Paley II has k = 2 (q + 1)."""
    odd = width // (width & -width)
    if odd == 1:
        return 1, 1
    order = 4 * odd
    while width % order == 0:
        if _is_prime(order - 1):
            return order, order - 1
        if order == 4 * odd and _is_prime(order // 2 - 1):
            return order, order // 2 - 1
        order *= 2
    return None


def _known_core(width: int) -> tuple[int, int]:
    core = _core(width)
    if core is None:
        raise AssertionError(f"{width} was checked to be a known order")
    return core


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))


@lru_cache(maxsize=64)
def _character(q: int) -> Int8[np.ndarray, " q"]:
    """Return chi: 0 at 0, +1 at the non-zero squares mod q, -1 elsewhere."""
    chi = np.full(q, -1, dtype=np.int8)
    chi[np.arange(q, dtype=np.int64) ** 2 % q] = 1
    chi[0] = 0
    chi.flags.writeable = False
    return chi


def _columns(
    width: int, order: int, q: int, picked: Int64[np.ndarray, " c"]
) -> Int8[np.ndarray, "m c"]:
    """Return the columns ``picked`` of H: the core's, doubled by Sylvester's signs."""
    if order == 1:
        core = np.ones((1, len(picked)), dtype=np.int8)
    elif order == q + 1:
        core = _paley_one(q, picked % order)
    else:
        core = _paley_two(q, picked % order)
    blocks = np.arange(width // order, dtype=np.int64)[:, None] & (picked // order)[None, :]
    signs = 1 - 2 * (np.bitwise_count(blocks) & 1).astype(np.int8)
    return (signs[:, None, :] * core[None, :, :]).reshape(width, len(picked))


def _skew(q: int, corner: int, picked: Int64[np.ndarray, " c"]) -> Int8[np.ndarray, "k c"]:
    """Return columns of S: chi(j - i), bordered by a row of 1 and a column of ``corner``."""
    rows = np.arange(q + 1, dtype=np.int64)[:, None]
    columns = _character(q)[(picked[None, :] - rows) % q]
    columns[0, :] = 1
    columns[:, picked == 0] = corner
    columns[0, picked == 0] = 0
    return columns


def _paley_one(q: int, picked: Int64[np.ndarray, " c"]) -> Int8[np.ndarray, "k c"]:
    """Return columns of H = S + I."""
    columns = _skew(q, -1, picked)
    columns[picked, np.arange(len(picked))] += 1
    return columns


def _paley_two(q: int, picked: Int64[np.ndarray, " c"]) -> Int8[np.ndarray, "k c"]:
    """Return columns of H = kron(S, [[1,1],[1,-1]]) + kron(I, [[1,-1],[-1,-1]])."""
    of_s = np.array([[1, 1], [1, -1]], dtype=np.int8)
    of_i = np.array([[1, -1], [-1, -1]], dtype=np.int8)
    half, odd = picked // 2, picked % 2
    number = np.arange(len(picked))
    outer = _skew(q, 1, half)[:, None, :] * of_s[:, odd][None, :, :]
    outer[half, :, number] += of_i[:, odd].T
    return outer.reshape(2 * (q + 1), len(picked))
