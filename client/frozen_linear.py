"""What one layer gains: its trained A_i, its frozen B_i and the factor between them.

    dW_i = scale A_i b_i^T,    A_i (n x r) trained in float32, b_i (m x r) frozen

b_i are the integers of core/basis.py, kept as they are (int8 for ``hadamard``: a quarter of a float
B) and regenerated from the federation's seed: no module, parameter list or state dict holds them,
so there is nothing to save and nothing to tamper with. In PEFT's names B_i^T is `lora_A`, A_i is
`lora_B`. Source: method.md 1.1. Left to others: the product (frozen_product.py).
"""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class FrozenLinear:
    """One layer's residual. Shapes: a (n, r) float32, b (m, r) integers or floats."""

    a: nn.Parameter
    b: Tensor
    scale: float
