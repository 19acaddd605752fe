"""A full checkpoint as changes of layers against its base, and what else differs between the two.

Laws: both are pipeline folders, read tensor by tensor by our strict reader (T8); an adapted weight
is compared as W' - W; every other tensor has to be the base's, to the bit in one type and to half a
unit in the last place in another; a text encoder's table may have rows more, the learned tokens.
Tensors of whole numbers (``position_ids``) are buffers and left out, as in a release.
Cost: one tensor of both sides in memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from ..core.base_files import TOKENS, BaseFiles, Place, WeightFile
from ..core.change import Dense
from ..core.spec import FederationSpec, Layer
from ..core.tensorfile import TensorInfo

_FLOATS: Final = ("F16", "BF16", "F32")
_TEXT_MODEL: Final = "text_model."


@dataclass(frozen=True, slots=True)
class ChangedCheckpoint:
    """One checkpoint beside the base that it says it comes from."""

    spec: FederationSpec
    base: BaseFiles
    files: BaseFiles

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The types of its weights."""
        return tuple(sorted({self.files.place(layer).dtype for layer in self.spec.layers}))

    def change(self, layer: Layer) -> Dense:
        """Return W' - W. Raises InputError: one of them has no such layer."""
        before, after = self.base.place(layer), self.files.place(layer)
        return Dense.between(before.matrix(), after.matrix(), dtypes=(before.dtype, after.dtype))

    def foreign_changes(self) -> Iterator[tuple[str, float]]:
        """Give each other tensor that is not the base's, with its energy ||W' - W||_F^2."""
        adapted = {self._key(self.files.place(layer)) for layer in self.spec.layers}
        before = dict(_tensors(self.base))
        for key, place in _tensors(self.files):
            if key in adapted:
                continue
            origin = before.get(key)
            energy = _energy(place) if origin is None else _difference(origin, place)
            if energy:
                yield "/".join(key), energy

    def missing(self) -> Iterator[str]:
        """Name each tensor of the base that the checkpoint lacks."""
        there = dict(_tensors(self.files))
        yield from ("/".join(key) for key, _ in _tensors(self.base) if key not in there)

    @staticmethod
    def _key(place: Place) -> tuple[str, str]:
        return _key_of(place.file, place.info)


def _tensors(files: BaseFiles) -> Iterator[tuple[tuple[str, str], Place]]:
    """Give every tensor of numbers by component and name."""
    for file in files.weights:
        for info in file.header.tensors:
            if info.dtype in _FLOATS:
                yield _key_of(file, info), Place(file, info)


def _key_of(file: WeightFile, info: TensorInfo) -> tuple[str, str]:
    """Return component and name, a text encoder's without ``text_model.`` (formats.md 3.3)."""
    return file.component, info.name.removeprefix(_TEXT_MODEL)


def _difference(before: Place, after: Place) -> float:
    """Return ||W' - W||_F^2, 0 where rounding explains it; the tokens' added rows do not count."""
    one, other = _matrix(before), _matrix(after)
    if after.info.name in TOKENS and len(other) > len(one):
        other = other[: len(one)]
    if one.shape != other.shape:
        return _energy(after)
    same_type = before.dtype == after.dtype
    if same_type and np.array_equal(one, other):
        return 0.0
    found = Dense.between(one, other, dtypes=(before.dtype, after.dtype))
    if not same_type and bool((np.abs(found.change) <= found.half).all()):
        return 0.0
    return found.energy


def _energy(place: Place) -> float:
    """Return ||W'||_F^2."""
    stored = _matrix(place)
    zeros = np.zeros_like(stored)
    return Dense.between(zeros, stored, dtypes=(place.dtype, place.dtype)).energy


def _matrix(place: Place) -> np.ndarray:
    stored = place.values()
    return stored.reshape(len(stored), -1) if stored.ndim else stored.reshape(1, 1)
