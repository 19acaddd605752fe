"""What a training moves beside the tokens: the residuals of a base's layers.

The product trains one kind, A_i behind a frozen B_i (adapter.py). The seam is for what it is
compared with: benchmarks/single_concept.py trains an ordinary LoRA, both of whose sides move, with
the same tokens, draws and optimiser.
"""

import contextlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from torch import nn


class Residuals(Protocol):
    """Trainable residuals of a base's layers."""

    def trainable(self) -> Mapping[str, tuple[nn.Parameter, ...]]:
        """Return each layer's parameters under its canonical path."""
        ...

    def attached(self) -> contextlib.AbstractContextManager[None]:
        """Let every layer of the base answer with its residual inside the block."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return a copy of what a contribution would carry of each layer, by its path."""
        ...
