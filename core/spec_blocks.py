"""B_i of one slot in one layer of a federation: everything that it depends on is in the spec.

    B_i = columns t r .. t r + r - 1 of O, or of O's columns in the layer's quiet order
    with several epochs: t = i mod K, and O is the layer's of epoch floor(i / K)

Law: whoever holds the spec derives the same integers; nobody passes seed, width and rank by hand.
Source: method.md 2, 2.5 and 6.3, security.md 4.5. Cost: as core/basis.py.
"""

import numpy as np
from jaxtyping import Float32, Int, Int16

from . import basis
from .errors import SpecError
from .hadamard import HadamardColumns
from .layer import Layer
from .spec import FederationSpec


def slot_block(
    spec: FederationSpec, layer: Layer, slot: int
) -> HadamardColumns | Int16[np.ndarray, "m r"]:
    """Return b_i: for ``hadamard`` by what determines its columns, else its integers.

    Raises SpecError: the layer has no such slot.
    """
    epoch, rank = 0, spec.layer_rank(layer)
    if spec.epochs > 1:
        if slot >= spec.capacity:
            raise SpecError(
                f"slot {slot} of {layer.path}",
                why=f"the federation has {spec.capacity} slots",
                fix=f"take a slot from 0 to {spec.capacity - 1}",
                code="no-such-slot",
            )
        epoch, slot = divmod(slot, layer.width // rank)
    return basis.slot_block(
        spec.basis,
        seed=spec.seed,
        layer=basis.epoch_layer(layer.path, epoch),
        width=layer.width,
        rank=rank,
        slot=slot,
        order=layer.order or None,
    )


def integer_block(spec: FederationSpec, layer: Layer, slot: int) -> Int[np.ndarray, "m r"]:
    """Return b_i, int8 for ``hadamard``, else int16; B_i = b_i s, s of ``basis.scale``.

    Raises SpecError: the layer has no such slot.
    """
    found = slot_block(spec, layer, slot)
    return found.integers() if isinstance(found, HadamardColumns) else found


def block(spec: FederationSpec, layer: Layer, slot: int) -> Float32[np.ndarray, "m r"]:
    """Return B_i: the integers times their scale, rounded once.

    Raises SpecError: the layer has no such slot.
    """
    scale = basis.scale(spec.basis, layer.width)
    return (integer_block(spec, layer, slot).astype(np.float64) * scale).astype(np.float32)
