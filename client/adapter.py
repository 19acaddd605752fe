"""The trained factor A_i of every adapted layer, beside a base that nothing touches.

    y = W x + lambda (x B_i) A_i^T,    A_i (n x r) trained from zero, B_i (m x r) frozen

B_i is the integer block of core/basis.py, regenerated from the federation's seed and kept as a
buffer outside every state dict, times one scale: nothing to tamper with or to save. A_i stands in
our own table under the layer's canonical path and reaches the layer by a forward hook, so the
base's modules and names stay as they are. In PEFT's names B_i^T is `lora_A`, A_i is `lora_B`; the
frozen side is the input side (method.md 1.1, 1.4).

Source: product.md 7 "Own layer, why". Cost a layer and token: r (m + n) multiply-adds.
"""

import contextlib
from collections.abc import Generator, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..core.basis import integer_block, scale
from ..core.errors import SpecError
from ..core.spec import FederationSpec
from .base import Base


class FrozenLinear(nn.Module):
    """What one layer gains: lambda (x B) A^T, with B frozen. Shapes: b (m, r), a (n, r)."""

    b: Tensor

    def __init__(self, b: Tensor, a: Tensor, *, scale: float) -> None:
        """Keep ``b`` as it is (integers stay integers) and make ``a`` the one parameter."""
        super().__init__()
        self.register_buffer("b", b, persistent=False)
        self.a = nn.Parameter(a)
        self.scale: Final = scale
        self.lambda_ = 1.0

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the layer's answer ``y`` to ``x`` with the residual's answer added."""
        small = x.reshape(-1, x.shape[-1]) @ self.b.to(x.dtype)
        flat = y.reshape(-1, y.shape[-1])
        return torch.addmm(flat, small, self.a.t(), alpha=self.scale * self.lambda_).view_as(y)


class Adapter:
    """The FrozenLinear of every layer of a spec, for one slot."""

    def __init__(self, base: Base, spec: FederationSpec, slot: int) -> None:
        """Derive B of ``slot`` for every layer and start every A at zero.

        Raises SpecError: a layer is not in the base, or has another shape there.
        """
        self.layers: dict[str, FrozenLinear] = {}
        self._targets: dict[str, nn.Linear] = {}
        for layer in spec.layers:
            target = base.layer(layer.path)
            if (target.out_features, target.in_features) != (layer.out, layer.width):
                raise SpecError(
                    f"{layer.path} is {target.out_features} x {target.in_features} in the base, "
                    f"{layer.out} x {layer.width} in the spec",
                    why="A and B would not fit",
                    fix="use the base model that the federation's spec names",
                    code="layer-shape-differs",
                )
            rank = spec.layer_rank(layer)
            block = integer_block(
                spec.basis,
                seed=spec.seed,
                layer=layer.path,
                width=layer.width,
                rank=rank,
                slot=slot,
            )
            self._targets[layer.path] = target
            self.layers[layer.path] = FrozenLinear(
                torch.from_numpy(np.ascontiguousarray(block)),
                torch.zeros(layer.out, rank),
                scale=scale(spec.basis, layer.width),
            )

    def parameters(self) -> list[nn.Parameter]:
        """Return every A, in the spec's order."""
        return [layer.a for layer in self.layers.values()]

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of every A (n x r, float32) under its layer's canonical path."""
        return {path: layer.a.detach().numpy().copy() for path, layer in self.layers.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Put the values of ``state`` into every A.

        Raises SpecError: a layer is missing, too many, or of another shape.
        """
        shapes = {path: tuple(layer.a.shape) for path, layer in self.layers.items()}
        if shapes != {path: a.shape for path, a in state.items()}:
            raise SpecError(
                f"{len(state)} A tensors given, {len(shapes)} with other names or shapes expected",
                why="they were trained for another spec",
                fix="use the contribution together with the spec it was trained for",
                code="state-does-not-fit",
            )
        with torch.no_grad():
            for path, layer in self.layers.items():
                layer.a.copy_(torch.from_numpy(state[path]))

    @contextlib.contextmanager
    def attached(self, *, lambda_: float = 1.0) -> Generator[None]:
        """Let every layer answer with its residual, times ``lambda_``, inside the block."""
        for layer in self.layers.values():
            layer.lambda_ = lambda_
        handles = [attach(self._targets[path], layer) for path, layer in self.layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def attach(target: nn.Linear, layer: FrozenLinear) -> RemovableHandle:
    """Put ``layer`` behind ``target`` and return the handle that takes it off again."""

    def add(_module: nn.Module, args: tuple[Tensor, ...], answer: Tensor) -> Tensor:
        return layer(args[0], answer)

    return target.register_forward_hook(add)
