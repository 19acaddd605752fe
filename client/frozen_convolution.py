"""An adapted convolution, answering with its residual while it is attached.

What frozen_group.py is for linear layers, for one convolution: no two of them share an input. The
target answers through an instance attribute ``forward``, which is deleted at the end, also after an
exception. Autocast is resolved here, as there. Left to others: the product and its gradient
(convolution_product.py), whether the target is plain (frozen_group.py).
"""

import contextlib
from collections.abc import Generator

import torch
from torch import Tensor, nn

from .convolution_product import ConvolutionProduct, geometry_of
from .frozen_linear import FrozenLinear


class FrozenConvolution:
    """A target of the base and its residual; B's columns become kernels of the target's size."""

    def __init__(self, target: nn.Conv2d, layer: FrozenLinear, *, lambda_: float) -> None:
        """Lay out B of shape (m, r) as (r, c, kh, kw): m is read in the order of the weight's."""
        self._target = target
        self._a = layer.a
        self._b = layer.b.t().reshape(-1, *target.weight.shape[1:])
        self._alpha = layer.scale * lambda_
        self._geometry = geometry_of(target)

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        """Let the target answer with its residual inside the block."""
        try:
            self._target.forward = self._answer
            yield
        finally:
            vars(self._target).pop("forward", None)

    def _answer(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that nn.Conv2d gives it
        kind = input.device.type
        if not torch.is_autocast_enabled(kind):
            return self._product(input)
        x = input.to(torch.get_autocast_dtype(kind))
        with torch.autocast(kind, enabled=False):
            return self._product(x)

    def _product(self, x: Tensor) -> Tensor:
        target = self._target
        return ConvolutionProduct.apply(
            x, self._b, self._alpha, self._geometry, target.weight, target.bias, self._a
        )
