"""The two tensors of one layer in a LoRA file, in the shapes that its loaders take.

``down`` [R, m] and ``up`` [n, R]; of a convolution [R, channels, height, width] and [n, R, 1, 1].
In PEFT's names down is `lora_A`, up is `lora_B`. The values are core/stack.py's, the names each
file's own. Cost: one layer's tensors.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from .merging import Part
from .rounding import DType
from .spec import FederationSpec, Layer
from .stack import stacked


def lora_tensors(
    spec: FederationSpec, parts: Sequence[Part], layer: Layer, *, rank: int, dtype: DType
) -> tuple[Shaped[np.ndarray, "R ..."], Shaped[np.ndarray, "n R ..."]]:
    """Return (down, up) of ``layer`` with ``parts`` in slot order, padded with zeros to ``rank``.

    Raises SpecError: more columns than ``rank``. Raises OrthoFedError: a value beyond ``dtype``.
    """
    up, down = stacked(
        [part.term(spec, layer) for part in parts],
        family=spec.basis,
        width=layer.width,
        out=layer.out,
        rank=rank,
        dtype=dtype,
    )
    pixel = tuple(1 for _ in layer.kernel)
    return down.reshape(rank, *layer.shape[1:]), up.reshape(*up.shape, *pixel)
