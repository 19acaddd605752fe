"""The trained factor A_i of every adapted layer, beside a base that nothing touches.

    y = W x + lambda (x B_i) A_i^T,    A_i (n x r) trained from zero, B_i (m x r) frozen

B_i is regenerated from the federation's seed (frozen_linear.py). A_i stands in our own table under
the layer's canonical path and reaches the layer only while attached (frozen_group.py), so the
base's modules and names stay as they are. In PEFT's names B_i^T is `lora_A`, A_i is `lora_B`; the
frozen side is the input side (method.md 1.1, 1.4).

Source: product.md 7 "Own layer, why". Cost: frozen_product.py.
"""

import contextlib
from collections.abc import Generator, Mapping

import numpy as np
import torch
from torch import nn

from ..core.basis import scale
from ..core.errors import SpecError
from ..core.spec import FederationSpec
from ..core.spec_blocks import integer_block
from .base import Base
from .frozen_group import attached
from .frozen_linear import FrozenLinear
from .plain import Target


class Adapter:
    """The FrozenLinear of every layer of a spec, for one slot."""

    def __init__(self, base: Base, spec: FederationSpec, slot: int) -> None:
        """Derive B of ``slot`` for every layer and start every A at zero.

        Raises SpecError: a layer is not in the base, or has another shape there.
        """
        self.layers: dict[str, FrozenLinear] = {}
        self._targets = dict[str, Target]()
        for layer in spec.layers:
            target = base.layer(layer.path)
            shape = tuple(target.weight.shape)
            if shape != layer.shape:
                raise SpecError(
                    f"{layer.path} has shape {shape} in the base, {layer.shape} in the spec",
                    why="A and B would not fit",
                    fix="use the base model that the federation's spec names",
                    code="layer-shape-differs",
                )
            rank = spec.layer_rank(layer)
            block = integer_block(spec, layer, slot)
            device = target.weight.device
            self._targets[layer.path] = target
            self.layers[layer.path] = FrozenLinear(
                nn.Parameter(torch.zeros(layer.out, rank, device=device)),
                torch.from_numpy(np.ascontiguousarray(block)).to(device),
                scale(spec.basis, layer.width),
            )

    def trainable(self) -> dict[str, tuple[nn.Parameter, ...]]:
        """Return every A under its layer's canonical path, in the spec's order."""
        return {path: (layer.a,) for path, layer in self.layers.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of every A (n x r, float32) under its layer's canonical path."""
        return {path: layer.a.detach().cpu().numpy().copy() for path, layer in self.layers.items()}

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
        with attached(self.members(), lambda_=lambda_):
            yield

    def members(self) -> dict[str, tuple[Target, FrozenLinear]]:
        """Return each layer of the base with what it gains, under its canonical path."""
        return {path: (self._targets[path], layer) for path, layer in self.layers.items()}
