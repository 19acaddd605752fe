"""``full/<fed>-<rel>-full.safetensors``: the base with the merge applied, in web UIs' one file.

Laws (formats.md 5.7): the adapted weights are those of ``checkpoint/``, bit for bit; every other
weight is the base's own; no word is added, since such programs expect CLIP's vocabulary, so
``embeddings/`` comes with it. Buffers that are no weights (I64) are left out. Where a tensor lies
is core/single_file.py; a base with a tensor that has no place there gives no such file. Tensors
stand by the size of their type, then by name, as the reference writer has them: its readers ask
for each to begin at a multiple of its type. Cost: the adapted weights that ``run`` makes ahead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from .adapted_weight import adapted_layers, adapted_weight
from .base_files import BaseFiles, Place
from .lorafile import FileOrigin, full_metadata
from .loras import release_tag
from .merging import Merge
from .release_file import Buffer, Run, TensorFile, in_turn
from .single_file import SingleFileNames, Spot
from .tensorfile import SIZES, TensorInfo

_COMPONENTS: Final = ("unet", "vae", "text_encoder", "text_encoder_2")
_VAE_ATTENTION: Final = (
    "first_stage_model.encoder.mid.attn_1.",
    "first_stage_model.decoder.mid.attn_1.",
)
_MATRIX: Final = 2


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One tensor of the file: what of the base it is made of, its rows in that order."""

    key: str
    places: tuple[Place, ...]
    turned: bool

    @property
    def dtype(self) -> str:
        """The type of all its parts."""
        return self.places[0].info.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file; the VAE's attention is of 1 x 1 convolutions there."""
        first, *rest = self.places[0].info.shape
        if self.turned:
            return (*reversed(rest), first)
        rows = first * len(self.places)
        pixel = (1, 1) if self.key.startswith(_VAE_ATTENTION) and len(rest) == _MATRIX - 1 else ()
        return (rows, *rest, *pixel)


def full_files(  # what the file follows from
    base: BaseFiles,
    merge: Merge,
    origin: FileOrigin,
    *,
    n: int,
    run: Run = in_turn,
    merged: BaseFiles | None = None,
) -> Iterator[TensorFile]:
    """Give the single file of release ``n``; nothing where the base's family has none.

    ``merged``: a checkpoint of the very merge, from which adapted weights are copied; not where it
    lacks weights of the base, those of a component that the base's index leaves out.
    Raises InputError: the base lacks a layer of the spec.
    """
    tensors = _tensors(base)
    if not tensors:
        return
    layers = adapted_layers(base, merge)
    ready = dict[tuple[str, str], Place]()
    if merged is not None and {f.name for f in base.weights} <= {f.name for f in merged.weights}:
        ready = {key: merged.place(layer) for key, layer in layers.items()}

    work = [
        partial(adapted_weight, place, found, merge)
        for tensor in tensors
        for place in tensor.places
        if (found := layers.get((place.file.name, place.info.name))) is not None
    ]

    def data() -> Iterator[Buffer]:
        adapted = run(() if ready else work)
        for tensor in tensors:
            for place in tensor.places:
                key = (place.file.name, place.info.name)
                kept = ready.get(key, place)
                changed = key in layers and key not in ready
                pieces = [next(adapted)] if changed else kept.file.stored(kept.info)
                if tensor.turned:
                    yield _turned(b"".join(pieces), place.info)
                else:
                    yield from pieces

    def metadata(digest: str) -> dict[str, str]:
        return full_metadata(origin, [part.entry for part in merge.parts], tensor_hash=digest)

    yield TensorFile(
        name=f"full/{merge.spec.name}-{release_tag(n)}-full.safetensors",
        kind="full",
        dtype="+".join(sorted({tensor.dtype for tensor in tensors})),
        entries=tuple((tensor.key, tensor.dtype, tensor.shape) for tensor in tensors),
        data=data(),
        metadata=metadata,
        keep_order=True,
    )


def _tensors(base: BaseFiles) -> list[_Tensor]:
    """Return the file's tensors in its order; none where one of the base's has no place."""
    found = [
        Place(file, info)
        for file in base.weights
        if file.component in _COMPONENTS
        for info in file.header.tensors
        if info.dtype in SIZES  # no buffers
    ]
    shapes = {part: dict[str, tuple[int, ...]]() for part in _COMPONENTS}
    for place in found:
        shapes[place.file.component][place.info.name] = place.info.shape
    names = SingleFileNames.of_pipeline({part: named for part, named in shapes.items() if named})
    by_key = dict[str, list[tuple[Spot, Place]]]()
    for place in found:
        spot = names.spot(place.file.component, place.info.name)
        if spot is None:
            return []
        by_key.setdefault(spot.key, []).append((spot, place))
    tensors = list[_Tensor]()
    for key, parts in by_key.items():
        parts.sort(key=lambda part: part[0].part or (0, 1))
        if not _is_whole(parts):
            return []
        places = tuple(place for _, place in parts)
        tensors.append(_Tensor(key, places, parts[0][0].turned))
    return sorted(tensors, key=lambda tensor: (-SIZES[tensor.dtype], tensor.key))


def _is_whole(parts: list[tuple[Spot, Place]]) -> bool:
    """Return whether the parts of one tensor are all there, of one type and shape."""
    _, of = parts[0][0].part or (0, 1)
    numbers = [(spot.part or (0, 1))[0] for spot, _ in parts]
    kinds = {(place.info.dtype, place.info.shape) for _, place in parts}
    return numbers == list(range(of)) and len(kinds) == 1


def _turned(stored: bytes, info: TensorInfo) -> bytes:
    values = np.frombuffer(stored, f"<u{SIZES[info.dtype]}").reshape(info.shape)
    return values.T.tobytes()
