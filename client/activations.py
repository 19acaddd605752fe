"""What an import needs of a layer's inputs: Gram matrices of [down x; B^T x], summed on the way.

Hooks before every layer see x of the base alone, on public or made-up states; each x is reduced to
its R + r products at once, so nothing of the size of an activation is kept. A convolution's x is
its unfolded patch, in the order of the weight's own. Source: method.md 7, core/projection.py.
"""

import contextlib
from collections.abc import Generator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import Base
from .plain import Target


@contextlib.contextmanager
def grams(base: Base, rows: Mapping[str, np.ndarray]) -> Generator[dict[str, np.ndarray]]:
    """Sum the Gram matrix of ``rows`` x, (k, m) by layer path, over all passes inside the block."""
    summed = {path: np.zeros((len(each), len(each))) for path, each in rows.items()}
    handles = [
        base.layer(p).register_forward_pre_hook(_hook(summed, p, r)) for p, r in rows.items()
    ]
    try:
        yield summed
    finally:
        for handle in handles:
            handle.remove()


def _hook(summed: dict[str, np.ndarray], path: str, rows: np.ndarray):  # noqa: ANN202  # torch's own
    held = torch.from_numpy(rows.astype(np.float32))

    def see(target: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(target, Target)  # noqa: S101  # Base.layer gives no other
        seen = flat_inputs(target, args[0].detach().float()) @ held.to(args[0].device).t()
        summed[path] += (seen.double().t() @ seen.double()).cpu().numpy()

    return see


def flat_inputs(target: Target, x: Tensor) -> Tensor:
    """Return the inputs (b, ..., m) of a layer as rows (p, m); a convolution's, patch by patch."""
    if isinstance(target, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    padding, stride, dilation = (
        tuple(map(int, v)) for v in (target.padding, target.stride, target.dilation)
    )
    size = tuple(map(int, target.kernel_size))
    patches = functional.unfold(x, size, dilation=dilation, padding=padding, stride=stride)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])
