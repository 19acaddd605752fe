"""How residuals of several concepts become one model: dW by layer from every (up, down).

    sum     dW = lambda sum_i up_i down_i                        (FedAvg of the paper; ours)
    fusion  dW = (sum_i dW_i C_i)(sum_i C_i + ridge)^-1          (Mix-of-Show's, in closed form)
    refit   the same among the dW that stay in the span of all down sides, as `orthofed fuse` does:
            no file grows, and with disjoint slots each B_i stays and gets another A_i
    ties    trim to half, elect signs, mean of those that agree  (arXiv 2306.01708)
    dare    drop half at random, rescale, add                    (arXiv 2311.03099)

C_i: the second moments of the layer's inputs while model i draws its concept. TIES and DARE are
PEFT's own functions on whole dW_i, which spares them the loss of an SVD. All take the concepts'
vectors side by side. Source: method.md 8, 9.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from peft.utils.merge_utils import dare_linear, ties

from orthofed.client.variant import Residual, Variant
from orthofed.core.fusion import Fit

from .blocks import Matrix, spanned
from .recipes import Merge

DENSITY = 0.5
RECORDED = frozenset({"fusion", "refit"})
"""Merges that need C."""

Inputs = Callable[[int], Mapping[str, Matrix]]
"""C of every layer for part number i."""


def merged(
    how: Merge, parts: Sequence[Variant], inputs: Inputs, *, lambda_: float = 1.0, seed: int = 0
) -> Variant:
    """Return the model of all ``parts``; ``lambda_`` scales every residual of it."""
    whole = Variant.sum_of(parts)
    if how == "sum" or not whole.residuals:
        return Variant(whole.residuals, whole.vectors, lambda_, whole.token_layers)
    moments = [inputs(i) for i in range(len(parts))] if how in RECORDED else []
    residuals = {}
    for number, path in enumerate(whole.residuals):
        changes = [p.residuals[path].up.astype(np.float64) @ p.residuals[path].down for p in parts]
        if how in RECORDED:
            down = whole.residuals[path].down
            rows = np.eye(down.shape[1]) if how == "fusion" else spanned(down)
            fit = Fit.begun(len(changes[0]), len(rows))
            for change, c in zip(changes, moments, strict=True):
                fit.add(change @ rows.T, rows @ c[path] @ rows.T)
            total = fit.solved() @ rows
        else:
            total = _by_peft(how, changes, seed + number)
        residuals[path] = Residual(
            total.astype(np.float32), np.eye(total.shape[1], dtype=np.float32)
        )
    return Variant(residuals, whole.vectors, lambda_, whole.token_layers)


def _by_peft(how: Merge, changes: Sequence[Matrix], seed: int) -> Matrix:
    tensors = [torch.from_numpy(change) for change in changes]
    weights = torch.ones(len(tensors), dtype=torch.float64)
    if how == "ties":
        return ties(tensors, weights, DENSITY).numpy()
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # PEFT drops by the global generator
        return dare_linear(tensors, weights, DENSITY).numpy()
