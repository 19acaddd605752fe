"""Takes one layer's change apart by slots: whose it is, and what is nobody's.

    A = M B (B^T B)^-1,    share of slot t = <A_t B_t^T, M> / ||M||^2,    outside = M - A B^T

B holds the blocks of all leased slots side by side. Laws: the shares and the outside's add up to 1;
for ``hadamard`` B^T B = I exactly, so A_t = M B_t and the share is ||A_t||^2 / ||M||^2; ``haar``
(to 4e-4) and ``gaussian`` need the inverse. So anyone with base, seed and file finds every A_t:
method.md 5. Each figure comes with its rounding floor (change.py). Cost: change.py's, with c the
columns of all leased slots; free slots once more, which ``gaussian`` has no end of: not there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .basis import scale
from .change import Change
from .spec import FederationSpec, Layer
from .spec_blocks import integer_block


@dataclass(frozen=True, slots=True, eq=False)
class SlotPart:
    """What one layer holds of one slot: A_t times its merge weight, its energy, its floor."""

    a: Float64[np.ndarray, "n r"]
    energy: float
    floor: float


@dataclass(frozen=True, slots=True, eq=False)
class LayerParts:
    """One layer taken apart. Energies are squared norms, floors norms.

    ``outside``: of all leased slots; ``free``: that part of it which lies in slots nobody leased.
    """

    energy: float
    slots: Mapping[int, SlotPart]
    outside: float
    free: float
    floor: float


def extract(
    spec: FederationSpec, layer: Layer, change: Change, *, leased: Sequence[int]
) -> LayerParts:
    """Return what ``change`` holds of each slot in ``leased``, and what of none.

    Raises SpecError: a slot that the spec does not have.
    """
    rank = spec.layer_rank(layer)
    order = sorted(set(leased))
    b = _blocks(spec, layer, order)
    inverse = np.linalg.inv(b.T @ b) if spec.basis != "hadamard" else np.eye(b.shape[1])
    dual = b @ inverse  # A = M dual
    slots: dict[int, SlotPart] = {}
    for number, slot in enumerate(order):
        columns = slice(number * rank, (number + 1) * rank)
        a = change.times(dual[:, columns])
        slots[slot] = SlotPart(
            a=a,
            energy=float(np.sum(a * change.times(b[:, columns]))),
            floor=change.floor(dual[:, columns]),
        )
    rest = change.outside(b, inverse)
    return LayerParts(
        energy=change.energy,
        slots=slots,
        outside=rest.energy,
        free=_free(spec, layer, rest, order),
        floor=rest.floor_outside(),
    )


def _free(spec: FederationSpec, layer: Layer, rest: Change, leased: Sequence[int]) -> float:
    """Return the energy of ``rest`` in the slots that are not leased."""
    free = [slot for slot in range(spec.capacity) if slot not in leased]
    if spec.basis == "gaussian" or not free:
        return 0.0
    return float(np.sum(rest.times(_blocks(spec, layer, free)) ** 2))


def _blocks(spec: FederationSpec, layer: Layer, slots: Sequence[int]) -> Float64[np.ndarray, "m c"]:
    """Return the blocks of ``slots`` side by side, in float64."""
    blocks = [integer_block(spec, layer, slot).astype(np.float64) for slot in slots]
    if not blocks:
        return np.zeros((layer.width, 0))
    return np.concatenate(blocks, axis=1) * scale(spec.basis, layer.width)
