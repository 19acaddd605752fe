"""What concepts beyond the disjoint slots cost the others: the overlap of epochs, and its bounds.

    heard = ||B_i^T B_j||_F^2 / r    the share of j's energy that lies in i's directions
          = 0 in one epoch of a layer, r / m in the mean between two
    a concept's sum over all others, in the mean over N concepts in epochs of n_0, n_1, ...:
          ours = (N^2 - sum n_e^2) r / (m N)    drawn = (N - 1) r / m    least = max(0, N r / m - 1)

``drawn``: columns that each concept draws of one O by chance (the paper), whatever N is. ``least``:
no choice of blocks does better (r (N r - m) / (m (N - 1)) a pair); full epochs meet it where r
divides m. The mean r / m is exact: signs of two epochs are independent, so every product of two
columns has the square 1 / m in the mean. Source: method.md 4.3. Cost of ``measured``: O((K r)^2 m).
"""

from dataclasses import dataclass

import numpy as np

from .layer import Layer
from .spec import FederationSpec
from .spec_blocks import integer_block


@dataclass(frozen=True, slots=True)
class Price:
    """What ``concepts`` cost each other in layers of one width, in energies of one concept.

    ``next_adds``: what one concept more adds to each concept of another epoch than its own, 0 where
    there is none. ``heard``, ``drawn``, ``least``: a concept's sum over all others, in the mean.
    """

    concepts: int
    next_adds: float
    heard: float
    drawn: float
    least: float


@dataclass(frozen=True, slots=True)
class Measured:
    """||B_i^T B_j||^2 / r over the pairs of two epochs: their mean and the largest."""

    mean: float
    largest: float


@dataclass(frozen=True, slots=True)
class Overlapping:
    """``layers`` of ``all`` in which concepts of several bases lie.

    ``share``: of each concept of another basis, what is heard in the mean where it is most, r / m.
    """

    layers: int
    all: int
    share: float


def price(concepts: int, *, slots: int, rank: int, width: int) -> Price:
    """Return what ``concepts`` cost in a layer of a federation of ``slots``, leased in order.

    >>> found = price(17, slots=32, rank=20, width=320)
    >>> round(found.heard, 3), found.drawn, found.least
    (0.118, 1.0, 0.0625)
    """
    share, disjoint = rank / width, width // rank
    full, rest = divmod(concepts, disjoint)
    alike = full * disjoint**2 + rest**2
    return Price(
        concepts=concepts,
        next_adds=share if disjoint <= concepts < slots else 0.0,
        heard=(concepts**2 - alike) * share / max(concepts, 1),
        drawn=max(concepts - 1, 0) * share,
        least=max(0.0, concepts * share - 1),
    )


def stages(disjoint: int, slots: int) -> tuple[int, ...]:
    """Return the numbers of concepts at which a layer's price changes: K, K + 1, 2 K, ... all.

    >>> stages(16, 40), stages(64, 40)
    ((16, 17, 32, 40), (40,))
    """
    if slots <= disjoint:
        return (slots,)
    return tuple(sorted({disjoint, disjoint + 1, *range(2 * disjoint, slots, disjoint), slots}))


def overlapping(spec: FederationSpec) -> Overlapping | None:
    """Return where slots of ``spec`` overlap; None: no two do in any layer."""
    shares = [
        spec.layer_rank(layer) / layer.width
        for layer in spec.layers
        if spec.capacity > layer.width // spec.layer_rank(layer)
    ]
    return Overlapping(len(shares), len(spec.layers), max(shares)) if shares else None


def measured(spec: FederationSpec, layer: Layer) -> Measured | None:
    """Return the overlap of the blocks in ``layer`` of its first two epochs; None: it has one."""
    rank = spec.layer_rank(layer)
    disjoint = layer.width // rank
    if spec.capacity <= disjoint:
        return None
    one, other = (
        np.concatenate([integer_block(spec, layer, slot) for slot in some], axis=1)
        for some in (range(disjoint), range(disjoint, min(2 * disjoint, spec.capacity)))
    )
    square = (one.T.astype(np.float64) @ other.astype(np.float64) / layer.width) ** 2
    shares = square.reshape(disjoint, rank, -1, rank).sum(axis=(1, 3)) / rank
    return Measured(mean=float(shares.mean()), largest=float(shares.max()))
