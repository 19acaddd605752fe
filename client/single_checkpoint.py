"""A checkpoint in one file, as web UIs take it, read tensor by tensor by our strict reader (T8).

What lies where is core/single_file.py; here are the reads, and the rows that a layer has of a
tensor that holds three. Cost: one tensor in memory.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from ..core.base_files import PIECE, Place, WeightFile
from ..core.errors import InputError
from ..core.rounding import DType
from ..core.single_file import SingleFileNames, Spot
from ..core.spec import Layer
from ..core.targets import tensor_names
from .adapter_file import read_header

FLOATS: Final = ("F16", "BF16", "F32")


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor of the file, or a third of one, the way a pipeline has it; ``rows`` of it or all."""

    place: Place
    spot: Spot
    rows: tuple[int, ...] | None = None

    @property
    def dtype(self) -> DType:
        """The tensor's type."""
        return self.place.dtype

    def matrix(self) -> np.ndarray:
        """Return the values as n x m. Raises InputError: not finite."""
        stored = self.place.matrix()
        stored = stored.T if self.spot.turned else stored
        if self.spot.part is not None:
            number, of = self.spot.part
            each = len(stored) // of
            stored = stored[number * each : (number + 1) * each]
        return stored if self.rows is None else stored[list(self.rows)]


class SingleCheckpoint:
    """One file with UNet, VAE and text encoders under their original names."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises InputError: the strict reader refuses it."""
        self.path = path
        self._file = WeightFile(path.name, read_header(path), self._read)
        self._infos = {info.name: info for info in self._file.header.tensors}
        self.names = SingleFileNames(self._infos)

    @staticmethod
    def is_one(path: Path) -> bool:
        """Return whether a tensor file holds a whole model. Raises InputError: it is none."""
        return SingleFileNames.is_one([info.name for info in read_header(path).tensors])

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, which publishers of such files name them by."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def find(self, component: str, name: str) -> Piece | None:
        """Return the tensor ``name`` of a pipeline's component, None where the file has none."""
        spot = self.names.spot(component, name)
        if spot is None or self._infos[spot.key].dtype not in FLOATS:
            return None
        return Piece(Place(self._file, self._infos[spot.key]), spot)

    def place(self, layer: Layer) -> Piece:
        """Return a layer's weight. Raises InputError: it is not there, or has another shape."""
        component = layer.path.partition(".")[0]
        found = self.find(component, tensor_names(layer.path)[0])
        if found is None:
            raise self._other_model(f"{self.path.name} has no {layer.path}")
        shape = found.place.info.shape
        rows = shape[0] // found.spot.part[1] if found.spot.part else shape[0]
        if (rows, *shape[1:]) != layer.shape:
            raise self._other_model(f"{layer.path} of {self.path.name} has shape {shape}")
        return found

    def tensors(self) -> Iterator[tuple[str, Piece]]:
        """Give every tensor of numbers by its name in the file; whole numbers are buffers."""
        for name, info in self._infos.items():
            if info.dtype in FLOATS:
                yield name, Piece(Place(self._file, info), Spot(name))

    def _read(self, _name: str, offset: int, length: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    @staticmethod
    def _other_model(what: str) -> InputError:
        return InputError(
            what,
            why="it is a version of another base model than the federation's, or not all of one",
            fix="give a whole checkpoint of the federation's base, with UNet and text encoders",
            code="not-the-base",
        )
