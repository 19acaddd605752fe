"""Quiet columns: which columns of O a slot gets, where more are there than slots need.

    u_c = o_c^T C o_c      the energy that column c sees; C = E[x x^T] of the base's own inputs
    order = for t = 0..K-1:  z[t], z[t + K], ..., z[t + (r - 1) K]      z: columns by (u_c, c)

The K r quietest columns are dealt evenly over K slots of rank r, the quietest slot first: what a
concept adds on an input is A_i B_i^T x, so it disturbs others least where inputs carry little.
Exactness is untouched; the gain depends on the fill K r / m and is nil where every column is used.
Source: method.md 6.3. Not here: how C comes about (client/column_energies.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from .layer import Layer
from .spec import FederationSpec


def dealt(energy: Sequence[float], *, slots: int, rank: int) -> tuple[int, ...]:
    """Return the columns in the order in which slots own them.

    >>> dealt([5.0, 1.0, 4.0, 2.0, 3.0, 0.0], slots=2, rank=2)
    (5, 3, 1, 4)
    """
    z = sorted(range(len(energy)), key=lambda c: (energy[c], c))
    return tuple(z[t + k * slots] for t in range(slots) for k in range(rank))


def with_quiet_columns(
    spec: FederationSpec, energies: Mapping[str, Float64[np.ndarray, " m"]]
) -> FederationSpec:
    """Return ``spec`` with each layer's columns dealt by ``energies``, u (m,) by layer path.

    A layer whose columns the slots use up keeps them as they stand.
    """
    return replace(spec, layers=tuple(_dealt(spec, layer, energies) for layer in spec.layers))


def _dealt(
    spec: FederationSpec, layer: Layer, energies: Mapping[str, Float64[np.ndarray, " m"]]
) -> Layer:
    rank = spec.layer_rank(layer)
    if spec.capacity * rank == layer.width:
        return layer
    energy = [float(each) for each in energies[layer.path]]
    return replace(layer, order=dealt(energy, slots=spec.capacity, rank=rank))


def heard(
    spec: FederationSpec, energies: Mapping[str, Float64[np.ndarray, " m"]]
) -> dict[int, float]:
    """Return by width the energy that a slot's column sees in the mean, 1 for any column.

    Below 1: that much quieter than columns dealt by chance, which see 1 in the mean.
    """
    found: dict[int, list[float]] = {}
    for layer in spec.layers:
        energy = energies[layer.path]
        owned = list(layer.order or range(spec.capacity * spec.layer_rank(layer)))
        whole = float(energy.mean())
        share = float(energy[owned].mean()) / whole if whole else 1.0
        found.setdefault(layer.width, []).append(share)
    return {width: float(np.mean(shares)) for width, shares in sorted(found.items())}
