"""Takes one layer's change apart by slots: whose it is, and what is nobody's.

    A = M B (B^T B)^-1,    share of slot t = <A_t B_t^T, M> / ||M||^2,    outside = M - A B^T

B holds the blocks of all leased slots side by side. Laws: the shares and the outside's add up to 1;
for ``hadamard`` slots of one epoch B^T B = I exactly, so A_t = M B_t and the share is
||A_t||^2 / ||M||^2; slots of several epochs, ``haar`` (to 4e-4) and ``gaussian`` need the inverse,
and a share may then be below 0. Where the columns are more than the layer has, or too close to
dependent, no inverse tells slots apart: then nothing is said of them, and only their sum can be
compared (``summed``). So anyone with base, seed and file finds every A_t: method.md 5. Each figure
comes with its rounding floor (change.py), which the inverse enlarges by ||(B^+)_t||_2. Cost:
change.py's, with c the columns of all leased slots; where an inverse is needed O(m c^2); free slots
once more, which ``gaussian`` has no end of and epochs share with the leased ones: not there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .basis import scale
from .change import Change
from .spec import FederationSpec, Layer
from .spec_blocks import integer_block

_LEAST_SINGULAR = 1e-4
"""Of the largest: what 16 bits rounded is then noise, and float64 has half of its digits left."""
_FLOAT64 = 2.0**-53
_RIDGE = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class SlotPart:
    """What one layer holds of one slot: A_t times its merge weight, its energy, its floor.

    ``enlarged``: how many times larger the floor is than that of a disjoint slot.
    """

    a: Float64[np.ndarray, "n r"]
    energy: float
    floor: float
    enlarged: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class LayerParts:
    """One layer taken apart. Energies are squared norms, floors norms.

    ``apart``: whether slots can be told apart here; else there are none, and nothing is outside.
    ``outside``: of all leased slots; ``free``: that part of it which lies in slots nobody leased,
    None where free slots are not disjoint from leased ones.
    """

    energy: float
    slots: Mapping[int, SlotPart]
    outside: float
    free: float | None
    floor: float
    apart: bool = True


@dataclass(frozen=True, slots=True)
class Summed:
    """One layer compared with what was sent for it. Norms; slots that rounding hides are in no set.

    ``off``: what differs from the contributions of ``held``; ``absent``: those the file lacks.
    """

    off: float
    floor: float
    held: frozenset[int]
    absent: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class _Span:
    """The columns of all leased slots: ``b``, an orthonormal basis of theirs, and (b^+)^T."""

    b: Float64[np.ndarray, "m c"]
    basis: Float64[np.ndarray, "m c"]
    dual: Float64[np.ndarray, "m c"]
    condition: float = 1.0


def extract(
    spec: FederationSpec, layer: Layer, change: Change, *, leased: Sequence[int]
) -> LayerParts:
    """Return what ``change`` holds of each slot in ``leased``, and what of none.

    Raises SpecError: a slot that the spec does not have.
    """
    rank = spec.layer_rank(layer)
    order = sorted(set(leased))
    span = _span(spec, layer, order)
    if span is None:
        return LayerParts(change.energy, {}, 0.0, None, 0.0, apart=False)
    slots: dict[int, SlotPart] = {}
    for number, slot in enumerate(order):
        columns = slice(number * rank, (number + 1) * rank)
        dual = span.dual[:, columns]
        a = change.times(dual)
        size = 1.0 if span.dual is span.b else float(np.linalg.norm(dual, 2))
        slots[slot] = SlotPart(
            a=a,
            energy=float(np.sum(a * change.times(span.b[:, columns]))),
            floor=change.floor(dual, size=size, condition=span.condition),
            enlarged=max(size, 1.0),
        )
    rest = change.outside(span.basis, np.eye(span.basis.shape[1]))
    return LayerParts(
        energy=change.energy,
        slots=slots,
        outside=rest.energy,
        free=_free(spec, layer, rest, order),
        floor=rest.floor_outside(condition=span.condition),
    )


def summed(
    spec: FederationSpec,
    layer: Layer,
    change: Change,
    sent: Mapping[int, Float64[np.ndarray, "n r"]],
) -> Summed:
    """Compare ``change`` with sum_t A_t B_t^T of all slots, or of those that it seems to hold.

    ``sent``: A_t times its merge weight, by slot, of one slot or more. A file of some concepts is
    an honest one, so where all together are off, those go whose weight in the least-squares fit of
    ``change`` by the known A_t B_t^T is below a half. Raises SpecError, as ``extract``.
    """
    order = sorted(sent)
    down = _blocks(spec, layer, order).T
    up = np.concatenate([sent[slot] for slot in order], axis=1)
    count, rank = len(order), spec.layer_rank(layer)
    own = sum(down.shape) * _FLOAT64 * float(np.linalg.norm(up)) * float(np.linalg.norm(down))
    floor = change.floor_outside() + own
    columns = (up.T @ up) * (down @ down.T)
    gram: Float64[np.ndarray, "N N"] = columns.reshape(count, rank, count, rank).sum(axis=(1, 3))
    size = np.sqrt(np.maximum(np.diag(gram), 0.0))
    loud = size > floor
    off, held = change.off(up, down), np.ones(count, dtype=bool)
    if off > floor:
        products = (up * change.times(down.T)).sum(axis=0)
        dots: Float64[np.ndarray, " N"] = products.reshape(count, rank).sum(axis=1)
        unit = np.where(loud, size, 1.0)  # one length for all: none is lost beside a louder one
        whole = gram / np.outer(unit, unit) + _RIDGE * np.eye(count)
        fit = np.linalg.solve(whole, dots / unit) / unit
        held = (fit > 0.5) | ~loud  # noqa: PLR2004  # nearer to all of it than to none
        off = min(off, change.off(up * np.repeat(held, rank), down))
    return Summed(
        off=off,
        floor=floor,
        held=frozenset(np.array(order)[loud & held].tolist()),
        absent=frozenset(np.array(order)[~held].tolist()),
    )


def _span(spec: FederationSpec, layer: Layer, leased: Sequence[int]) -> _Span | None:
    """Return the span of the leased slots; None: their columns are not independent."""
    b = _blocks(spec, layer, leased)
    if not leased or (
        spec.basis == "hadamard" and len({spec.epoch(layer, u) for u in leased}) == 1
    ):
        return _Span(b, b, b)
    if b.shape[1] > layer.width:
        return None
    q, r = np.linalg.qr(b)
    u, singular, v = np.linalg.svd(r)
    if singular[-1] < _LEAST_SINGULAR * singular[0]:
        return None
    return _Span(b, q, q @ ((u / singular) @ v), float(singular[0] / singular[-1]))


def _free(spec: FederationSpec, layer: Layer, rest: Change, leased: Sequence[int]) -> float | None:
    """Return the energy of ``rest`` in the slots that are not leased."""
    if spec.basis == "gaussian" or spec.epochs > 1:
        return None
    free = [slot for slot in range(spec.capacity) if slot not in leased]
    return float(np.sum(rest.times(_blocks(spec, layer, free)) ** 2))


def _blocks(spec: FederationSpec, layer: Layer, slots: Sequence[int]) -> Float64[np.ndarray, "m c"]:
    """Return the blocks of ``slots`` side by side, in float64."""
    blocks = [integer_block(spec, layer, slot).astype(np.float64) for slot in slots]
    if not blocks:
        return np.zeros((layer.width, 0))
    return np.concatenate(blocks, axis=1) * scale(spec.basis, layer.width)
