"""The frozen factor B_i of one slot, for every basis family.

    B_i = b_i s,    b_i integers (m x r), s one number for the whole layer

Families: ``hadamard`` (default; disjoint slots are exactly orthogonal), ``haar`` (the paper's; an
int16 table), ``gaussian`` (the ablation; no two slots orthogonal). In PEFT's names B_i^T is
`lora_A`, the down projection. Law: the integers depend on (family, seed, layer, width, rank, slot)
alone. Source: method.md 2 and 3.2. Cost: O(m r), plus what haar.py says. Not here: the sum.
"""

import math
from collections.abc import Sequence
from typing import Literal, assert_never, get_args

import numpy as np
from jaxtyping import Float32, Int, Int16

from .errors import SpecError
from .gaussian import gaussian_block
from .haar import haar_table
from .hadamard import HadamardColumns, hadamard_columns, hadamard_signs
from .slots import columns

__all__ = [
    "FAMILIES",
    "Family",
    "block",
    "epoch_layer",
    "hadamard_signs",
    "integer_block",
    "scale",
    "slot_block",
]

Family = Literal["hadamard", "haar", "gaussian"]
FAMILIES: tuple[Family, ...] = get_args(Family)


def slot_block(
    family: Family,
    *,
    seed: bytes,
    layer: str,
    width: int,
    rank: int,
    slot: int,
    order: Sequence[int] | None = None,
    table: Int16[np.ndarray, "m m"] | None = None,
) -> HadamardColumns | Int16[np.ndarray, "m r"]:
    """Return b_i of ``slot``: for ``hadamard`` by what determines its columns, else its integers.

    ``order`` lists O's columns as slots deal them out (the spec's quiet columns); ``table``
    replaces the T computed here for ``haar``.

    Raises SpecError: the layer has no such slot, or the family no such width.
    """
    wanted = columns(slot, rank)
    if family == "gaussian":
        return gaussian_block(width, rank, slot=slot, seed=seed, layer=layer)
    available = width if order is None else len(order)
    if wanted.stop > available:
        raise SpecError(
            f"slot {slot} at rank {rank} of {layer}, which has {available} columns",
            why="a slot is as many columns as the rank, and no two slots share one",
            fix=f"keep (slot + 1) * rank at {available} or below",
            code="no-such-slot",
        )
    picked = wanted if order is None else [order[c] for c in wanted]
    if family == "hadamard":
        return hadamard_columns(width, picked, seed=seed, layer=layer)
    if family == "haar":
        full = haar_table(width, seed=seed) if table is None else table
        return full[:, np.asarray(picked, dtype=np.int64)]
    assert_never(family)


def integer_block(
    family: Family,
    *,
    seed: bytes,
    layer: str,
    width: int,
    rank: int,
    slot: int,
    order: Sequence[int] | None = None,
    table: Int16[np.ndarray, "m m"] | None = None,
) -> Int[np.ndarray, "m r"]:
    """Return the integers of ``slot_block``: int8 for ``hadamard``, else int16.

    Shapes: m = ``width``, r = ``rank``. Raises SpecError, as ``slot_block``.
    """
    found = slot_block(
        family, seed=seed, layer=layer, width=width, rank=rank, slot=slot, order=order, table=table
    )
    return found.integers() if isinstance(found, HadamardColumns) else found


def scale(family: Family, width: int) -> float:
    """Return s, so that B_i = b_i s.

    >>> scale("hadamard", 256), scale("haar", 320) == 2.0**-15
    (0.0625, True)
    """
    if family == "haar":
        return 2.0**-15
    root = 1.0 / math.sqrt(float(width))
    return root / 8.0 if family == "gaussian" else root


def block(
    family: Family,
    *,
    seed: bytes,
    layer: str,
    width: int,
    rank: int,
    slot: int,
    order: Sequence[int] | None = None,
    table: Int16[np.ndarray, "m m"] | None = None,
) -> Float32[np.ndarray, "m r"]:
    """Return B_i of ``slot``: the integer block times its scale, rounded once to float32."""
    integers = integer_block(
        family, seed=seed, layer=layer, width=width, rank=rank, slot=slot, order=order, table=table
    )
    return (integers.astype(np.float64) * scale(family, width)).astype(np.float32)


def epoch_layer(layer: str, epoch: int) -> str:
    """Return the path that a fresh O of ``epoch`` hashes: slot u belongs to epoch floor(u / K).

    >>> epoch_layer("unet.test", 0), epoch_layer("unet.test", 1)
    ('unet.test', 'unet.test#1')
    """
    if epoch < 0:
        raise SpecError(
            f"epoch {epoch}",
            why="epochs count from 0",
            fix="divide the slot number by the capacity",
            code="bad-slot",
        )
    return layer if epoch == 0 else f"{layer}#{epoch}"
