"""A full checkpoint as changes of layers against its base, and what else differs between the two.

Each side is a pipeline folder or one file (single_checkpoint.py). Laws: both are read tensor by
tensor by our strict reader (T8); an adapted weight is compared as W' - W; every other tensor has to
be the base's, to the bit in one type and to half a unit in the last place in another; a text
encoder's table may have rows more, the learned tokens. Tensors of whole numbers (``position_ids``)
are buffers and left out, as in a release. A file that stands beside a folder has names of no
counterpart: those that no loader makes pictures with are said to be not compared, any other is
somebody's own. Cost: one tensor of both sides in memory.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from ..core.base_files import BaseFiles, Place
from ..core.change import Dense
from ..core.rounding import DType
from ..core.spec import FederationSpec, Layer
from .single_checkpoint import FLOATS, Piece, SingleCheckpoint

_TEXT_MODEL: Final = "text_model."
_TOKENS: Final = "token_embedding.weight"
Model = BaseFiles | SingleCheckpoint


class Stored(Protocol):
    """A tensor on the disk."""

    @property
    def dtype(self) -> DType:
        """Its type."""
        ...

    def matrix(self) -> np.ndarray:
        """Return the values as n x m; BF16 as uint16."""
        ...


Tensors = Mapping[str, Stored]


@dataclass(frozen=True, slots=True)
class ChangedCheckpoint:
    """One checkpoint beside the base that it says it comes from."""

    spec: FederationSpec
    base: Model
    files: Model

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The types of its weights."""
        return tuple(sorted({self.files.place(layer).dtype for layer in self.spec.layers}))

    def change(self, layer: Layer) -> Dense:
        """Return W' - W. Raises InputError: one of them has no such layer."""
        before, after = self.base.place(layer), self.files.place(layer)
        return Dense.between(before.matrix(), after.matrix(), dtypes=(before.dtype, after.dtype))

    def others(self) -> "Others":
        """Return every tensor that the federation does not adapt, of both sides."""
        before, after = self._named(self.base, self.files), self._named(self.files, self.base)
        unread = self._unread()
        return Others(
            {name: stored for name, stored in before.items() if name not in unread},
            {name: stored for name, stored in after.items() if name not in unread},
            tuple(sorted(unread & (set(before) | set(after)))),
        )

    def _named(self, model: Model, beside: Model) -> Tensors:
        """Return the other tensors of ``model`` by names that ``beside`` has for them too."""
        if isinstance(model, BaseFiles):
            adapted = {_name(model.place(layer)) for layer in self.spec.layers}
            return {n: place for n, place in _tensors(model) if n not in adapted}
        if isinstance(beside, SingleCheckpoint):
            return self._rest(model)
        adapted = {_name(beside.place(layer)) for layer in self.spec.layers}
        found, claimed = dict[str, Piece](), set[str]()
        for name, _ in _tensors(beside):
            component, _, inside = name.partition("/")
            if (piece := model.find(component, inside)) is not None:
                claimed.add(piece.spot.key)
                if name not in adapted:
                    found[name] = piece
        return {**found, **{n: piece for n, piece in model.tensors() if n not in claimed}}

    def _rest(self, model: SingleCheckpoint) -> Tensors:
        """Return the tensors of one file, of those that hold layers the rows that are none."""
        taken = dict[str, set[int]]()
        for layer in self.spec.layers:
            spot = model.place(layer).spot
            number, _ = spot.part or (0, 1)
            taken.setdefault(spot.key, set()).update(
                range(number * layer.out, (number + 1) * layer.out)
            )
        found = dict[str, Piece]()
        for name, piece in model.tensors():
            rows = set(range(piece.place.info.shape[0])) if name in taken else None
            left = None if rows is None else tuple(sorted(rows - taken[name]))
            if left != ():
                plain = name.replace("transformer.text_model.", "transformer.")
                found[plain] = Piece(piece.place, piece.spot, left)
        return found

    def _unread(self) -> frozenset[str]:
        """Return names of a file that a folder beside it has no counterpart for, and needs none."""
        match self.base, self.files:
            case (BaseFiles() as folder, SingleCheckpoint() as file):
                pass
            case (SingleCheckpoint() as file, BaseFiles() as folder):
                pass
            case _:
                return frozenset()
        layer = "text_encoder/encoder.layers."
        numbers = [
            int(n[len(layer) :].partition(".")[0])
            for n, _ in _tensors(folder)
            if n.startswith(layer)
        ]
        return file.names.unread(file.names.unused_layers(max(numbers, default=-1) + 1))


@dataclass(frozen=True, slots=True)
class Others:
    """The tensors that nobody adapts, by name; ``unread`` were not compared."""

    before: Tensors
    after: Tensors
    unread: tuple[str, ...]

    def changes(self) -> Iterator[tuple[str, float]]:
        """Give each that is not the base's, with its energy ||W' - W||_F^2."""
        for name, stored in self.after.items():
            origin = self.before.get(name)
            energy = _energy(stored) if origin is None else _difference(name, origin, stored)
            if energy:
                yield name, energy

    def missing(self) -> Iterator[str]:
        """Name each tensor of the base that the checkpoint lacks."""
        yield from (name for name in self.before if name not in self.after)

    @property
    def compared(self) -> tuple[str, ...]:
        """The names that both sides have."""
        return tuple(name for name in self.after if name in self.before)


def _tensors(files: BaseFiles) -> Iterator[tuple[str, Place]]:
    """Give every tensor of numbers in a folder, by component and name."""
    for file in files.weights:
        for info in file.header.tensors:
            if info.dtype in FLOATS:
                place = Place(file, info)
                yield _name(place), place


def _name(place: Place) -> str:
    """Return component and name, a text encoder's without ``text_model.`` (formats.md 3.3)."""
    return f"{place.file.component}/{place.info.name.removeprefix(_TEXT_MODEL)}"


def _difference(name: str, before: Stored, after: Stored) -> float:
    """Return ||W' - W||_F^2, 0 where rounding explains it; the tokens' added rows do not count."""
    one, other = before.matrix(), after.matrix()
    if name.endswith(_TOKENS) and len(other) > len(one):
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


def _energy(stored: Stored) -> float:
    """Return ||W'||_F^2."""
    values = stored.matrix()
    return Dense.between(np.zeros_like(values), values, dtypes=(stored.dtype, stored.dtype)).energy
