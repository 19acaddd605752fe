"""One residual for every method, up (n, r) and down (r, m) by layer, so that only the law differs.

    lora       both sides train; up starts at 0, down as PEFT's does (uniform in +-1 / sqrt(m))
    frozen     down = B^T stays, up = A trains from 0 (the paper, ours)
    frozen_up  up stays, down trains from 0: which side is frozen matters (method.md 1.4)
    none       nothing beside the tokens

A layer answers y + (x down^T) up^T through a hook while attached; plain autograd, no kernel of the
product's, which test_frozen_product holds against the same formula.
"""

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from orthofed.client.base import Base
from orthofed.client.variant import Residual
from orthofed.core.spec import FederationSpec

from .blocks import Matrix
from .recipes import Side


@dataclass(slots=True, eq=False)
class Sides:
    """`Residuals` of the trainer: see orthofed/client/residuals.py."""

    base: Base
    up: dict[str, nn.Parameter]
    down: dict[str, nn.Parameter]

    @staticmethod
    def of(
        side: Side, base: Base, spec: FederationSpec, b: Mapping[str, Matrix], *, seed: int
    ) -> "Sides":
        """Start both sides of every layer; ``b``: B (m, r) by layer path, where one is frozen."""
        random = torch.Generator().manual_seed(seed)
        up, down = {}, {}
        for layer in spec.layers if side != "none" else ():
            r = spec.layer_rank(layer)
            zeros = torch.zeros(layer.out, r)
            if side == "lora":
                start = (2 * torch.rand(r, layer.width, generator=random) - 1) / layer.width**0.5
                pair = nn.Parameter(zeros), nn.Parameter(start)
            elif side == "frozen":
                pair = nn.Parameter(zeros), _fixed(b[layer.path].T)
            else:
                pair = _fixed(b[layer.path]), nn.Parameter(torch.zeros(r, layer.width))
            up[layer.path], down[layer.path] = pair
        return Sides(base, up, down)

    def trainable(self) -> Mapping[str, tuple[nn.Parameter, ...]]:
        """Return what a step moves, by layer."""
        pairs = {path: (up, self.down[path]) for path, up in self.up.items()}
        return {path: tuple(p for p in pair if p.requires_grad) for path, pair in pairs.items()}

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        """Let every layer answer with its residual inside the block."""
        handles = [
            self.base.layer(path).register_forward_hook(_hook(up, self.down[path]))
            for path, up in self.up.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of every up side."""
        return {path: up.detach().numpy().copy() for path, up in self.up.items()}

    def residuals(self) -> dict[str, Residual]:
        """Return a copy of both sides of every layer."""
        return {
            path: Residual(up, self.down[path].detach().numpy().copy())
            for path, up in self.state().items()
        }


def _fixed(values: Matrix) -> nn.Parameter:
    held = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    return nn.Parameter(held, requires_grad=False)


def _hook(up: nn.Parameter, down: nn.Parameter):
    def answer(_layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor:
        return y + functional.linear(functional.linear(args[0], down), up)

    return answer
