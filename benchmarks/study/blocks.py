"""B of every concept, in the ways that the study compares. Shapes: (m, r), orthonormal columns.

    hadamard, haar    disjoint slots of one O: a layer's own as in the product, a haar O a width
    hadamard_width    the product's family with one O a width, as haar has it
    epochs            a fresh O for every EPOCH concepts, disjoint slots in each (overlap mode)
    haar_draw         each concept draws r columns of one haar O alone (the paper)
    gaussian          independent normal entries (columns not orthonormal)
    equal, half       the worst cases: one B for all; half of the columns shared, half own
    quiet, loudest    hadamard slots dealt over the quietest K r columns, or over the loudest
    complement        disjoint slots of a random O inside the complement of the inputs' loudest
                      directions

The last three need C = E[x x^T] of the layer's inputs on public prompts, in the base. Source:
method.md 2, 2.5, 6.3, 6.4. With K r = m there is no column to choose, and quiet is hadamard in
another order.
"""

import numpy as np
from numpy.typing import NDArray

from orthofed.core.basis import block, epoch_layer
from orthofed.core.draw import draw
from orthofed.core.gaussian import gaussian_block, integer_normals
from orthofed.core.haar import haar_table
from orthofed.core.hadamard import hadamard_signs
from orthofed.core.layer import Layer
from orthofed.core.quiet import dealt
from orthofed.core.spec import FederationSpec
from orthofed.core.stream import Stream

LOUD = 8
"""Directions that `complement` leaves out, as far as the slots leave room."""
EPOCH = 4
"""Concepts that share one O in `epochs`, so that the twelve of the study need three of them."""
NEEDS_GRAM = frozenset({"quiet", "loudest", "complement"})
Matrix = NDArray[np.float64]


def block_of(
    kind: str, spec: FederationSpec, layer: Layer, concept: int, *, num: int, gram: Matrix | None
) -> Matrix:
    """Return B of concept number ``concept`` of ``num``. Raises ValueError: no such kind."""
    rank, width = spec.layer_rank(layer), layer.width
    place = {"seed": spec.seed, "layer": layer.path, "width": width, "rank": rank}
    if kind in {"hadamard", "hadamard_width", "haar", "equal", "epochs"}:
        family = "haar" if kind == "haar" else "hadamard"
        epoch, slot = divmod(concept, EPOCH) if kind == "epochs" else (0, concept)
        path = "" if kind == "hadamard_width" else epoch_layer(layer.path, epoch)
        own = 0 if kind == "equal" else slot
        return block(family, slot=own, **{**place, "layer": path}).astype(np.float64)
    if kind == "gaussian":
        drawn = gaussian_block(width, rank, slot=concept, seed=spec.seed, layer=layer.path)
        return drawn.astype(np.float64) / 8.0 / np.sqrt(width)
    if kind == "haar_draw":
        return haar_table(width, seed=spec.seed)[:, list(draw(concept, **place))] * 2.0**-15
    if kind == "half":
        whole, shared = _hadamard(spec, layer), rank // 2
        own = rank - shared
        first = shared + concept * own
        return np.hstack([whole[:, :shared], whole[:, first : first + own]])
    assert gram is not None, kind
    if kind in {"quiet", "loudest"}:
        whole = _hadamard(spec, layer)
        energy = np.einsum("mc,mk,kc->c", whole, gram, whole)
        order = dealt((-energy if kind == "loudest" else energy).tolist(), slots=num, rank=rank)
        return whole[:, list(order[concept * rank : (concept + 1) * rank])]
    if kind == "complement":
        _, directions = np.linalg.eigh(gram)  # ascending: the loudest last
        kept = directions[:, : width - min(LOUD, width - num * rank)]
        normals = Stream("gaussian", spec.seed, width, path=f"study.{layer.path}")
        square = integer_normals(normals, kept.shape[1], kept.shape[1]).astype(np.float64)
        mixed = np.linalg.qr(square)[0]
        return (kept @ mixed)[:, concept * rank : (concept + 1) * rank]
    raise ValueError(kind)


def spanned(down: Matrix) -> Matrix:
    """Return orthonormal rows with the span of those of ``down``, which may be the same r again."""
    _, values, rows = np.linalg.svd(down.astype(np.float64), full_matrices=False)
    return rows[values > values[0] * 1e-5]  # float32 came in


def _hadamard(spec: FederationSpec, layer: Layer) -> Matrix:
    """Return all of O of a layer."""
    signs = hadamard_signs(layer.width, range(layer.width), seed=spec.seed, layer=layer.path)
    return signs / np.sqrt(layer.width)
