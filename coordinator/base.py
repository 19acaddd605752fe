"""The base model's folder on this disk, and the norms of its weights.

What a folder says of itself is core/base_files.py; here are the reads. Norms (T12) are computed
once, when a federation is founded. Cost: one weight in memory at a time.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..core.base_files import BaseFiles
from ..core.rounding import exact
from ..core.spec import Layer

_POWER_STEPS = 64
_SMALL = 512


class BaseFolder(BaseFiles):
    """A diffusers pipeline folder with safetensors weights."""

    def __init__(self, root: Path) -> None:
        """List the regular files of the folder; raises InputError when it is no pipeline."""
        self.root = root
        found = (path for path in root.rglob("*") if path.is_file())
        sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in found}
        super().__init__(sizes, self._read, where=str(root))

    def norms(self, layers: tuple[Layer, ...]) -> Iterator[tuple[str, float]]:
        """Give the spectral norm of each layer's n x m weight, by path."""
        for layer in layers:
            place = self.place(layer)
            yield layer.path, spectral_norm(exact(place.matrix(), place.dtype))

    def longest_token(self, encoder: str) -> float:
        """Return the length of the longest row in an encoder's token table."""
        place = self.tokens(encoder)
        rows = exact(place.matrix(), place.dtype).astype(np.float64, copy=False)
        return float(np.sqrt(np.einsum("ij,ij->i", rows, rows).max()))

    def _read(self, name: str, offset: int, length: int) -> bytes:
        with (self.root / name).open("rb") as file:
            file.seek(offset)
            return file.read(length)


def spectral_norm(matrix: np.ndarray[Any, Any]) -> float:
    """Return the largest singular value, in float64.

    Exact below 512 rows or columns; above, 64 power steps, which never give more than the norm.
    """
    wide = matrix.astype(np.float64, copy=False)
    gram = wide @ wide.T if wide.shape[0] <= wide.shape[1] else wide.T @ wide
    if len(gram) <= _SMALL:
        return math.sqrt(max(0.0, float(np.linalg.eigvalsh(gram)[-1])))
    vector = np.cos(np.arange(len(gram), dtype=np.float64))
    for _ in range(_POWER_STEPS):
        grown = gram @ vector
        length = float(np.linalg.norm(grown))
        if length == 0.0:
            return 0.0
        vector = grown / length
    return math.sqrt(float(vector @ gram @ vector))
