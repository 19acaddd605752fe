"""Where a round of a concept with several owners starts: at their average, as a release holds it.

    A = M B (B^T B)^-1 of the concept's columns    vectors: the released ones, the owners' average

So release n to n + 1 is one round of federated averaging: every owner starts from the same A and
the same vectors, trains on its own pictures, and the merge averages what came of it. Law: what is
read is the signed release (owner_scores.py fetched it), not another owner's contribution; its LoRA
has 16 bits, so A is the average to one part in 2048. Source: method.md 5, docs/adr/0032. Cost: one
product with the block a layer.
"""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..core.spec import FederationSpec
from ..core.spec_blocks import block
from .variant import Residual, Variant


def has_owners(folder: Path, concept: str) -> bool:
    """Return whether the release in ``folder`` holds the concept as the average of several."""
    info = cast("dict[str, Any]", json.loads((folder / "info.json").read_bytes()))
    return any(each["concept"] == concept and "owners" in each for each in info["concepts"])


def average_of(folder: Path, spec: FederationSpec, concept: str, slot: int) -> Variant:
    """Return the concept as the release holds it, at weight 1, in the shape of a contribution.

    ``slot``: whose block it is of. Raises InputError: files are missing, or it counts nothing.
    """
    merged = Variant.of_release(folder, spec, lambda_=1.0, only=concept)
    residuals: dict[str, Residual] = {}
    for layer in spec.layers:
        frozen = block(spec, layer, slot).astype(np.float64)
        found = merged.residuals[layer.path]
        dual = frozen @ np.linalg.inv(frozen.T @ frozen)
        a = found.up.astype(np.float64) @ (found.down.astype(np.float64) @ dual)
        residuals[layer.path] = Residual(
            a.astype(np.float32), np.ascontiguousarray(frozen.T.astype(np.float32))
        )
    return Variant(residuals, merged.vectors, token_layers=spec.token_layers)
