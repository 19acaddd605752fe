"""The base model's folder, read without torch: hashes, headers, one tensor at a time.

Laws: files are hashed first and then read by the strict reader (security.md 6); a layer's weight is
found by the spec's path, with or without ``text_model.`` (formats.md 3.3); no checkpoint is ever
whole in memory. ``read`` is the roles' own (coordinator/base.py, client/base_folder.py). Cost:
hashing is one pass over the files, everything else reads headers and single tensors. Not here: what
makes two folders the same model (core/fingerprint.py).
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from jaxtyping import Shaped

from .errors import InputError
from .fingerprint import base_fingerprint, is_base_file
from .rounding import DType, exact
from .sizes import VOCABULARY
from .spec import Encoder, FederationSpec, Layer
from .spectral import spectral_norm
from .targets import Targets, target_layers, tensor_names
from .tensorfile import Header, TensorInfo, header_length, parse_header, read_tensor
from .token_layers import token_layers
from .vocabulary import reserved_words

Read = Callable[[str, int, int], bytes]
"""Gives the bytes of a file by name, offset and length; fewer only where the file ends."""
TOKENS = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
"""The two names under which a text encoder keeps its token rows."""
PIECE: int = 1 << 20
"""The bytes that are read at once where nothing else decides."""
_ADAPTED = ("unet", "text_encoder", "text_encoder_2")
_LENGTH_BYTES = 8
_INDEX = "model_index.json"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One safetensors file of the base: ``name`` is relative to the base's folder."""

    name: str
    header: Header
    read: Read = field(repr=False)

    @property
    def component(self) -> str:
        """The part of the pipeline that the file belongs to."""
        return self.name.partition("/")[0]

    def tensor(self, name: str) -> TensorInfo | None:
        """Return where one tensor lies."""
        return next((info for info in self.header.tensors if info.name == name), None)

    def stored(self, info: TensorInfo) -> Iterator[bytes]:
        """Give one tensor's bytes as they are, piece by piece.

        Raises InputError: the file was cut short meanwhile.
        """
        for start in range(0, info.size, PIECE):
            length = min(PIECE, info.size - start)
            piece = self.read(self.name, self.header.data_start + info.offset + start, length)
            if len(piece) != length:
                raise cut_short(self.name)
            yield piece


@dataclass(frozen=True, slots=True)
class Place:
    """Where one adapted weight or token matrix lies."""

    file: WeightFile
    info: TensorInfo

    @property
    def dtype(self) -> DType:
        """The tensor's type."""
        return cast("DType", self.info.dtype)

    def values(self) -> Shaped[np.ndarray, "..."]:
        """Return the values as stored; BF16 comes as uint16. Raises InputError: not finite."""
        offset = self.file.header.data_start + self.info.offset
        return read_tensor(self.info, self.file.read(self.file.name, offset, self.info.size))

    def matrix(self) -> Shaped[np.ndarray, "n m"]:
        """Return the values as n x m: a convolution's kernels one a row (core/layer.py)."""
        stored = self.values()
        if not stored.ndim:
            return stored.reshape(1, 1)
        return stored.reshape(len(stored), math.prod(stored.shape[1:]))


class BaseFiles:
    """The files of a diffusers pipeline with safetensors weights."""

    def __init__(self, sizes: Mapping[str, int], read: Read, *, where: str) -> None:
        """Keep the files' sizes by name; ``where`` is what error texts call the folder.

        Raises InputError: it is no pipeline.
        """
        self.sizes = dict(sorted(sizes.items()))
        self.where = where
        self.read = read
        if _INDEX not in self.sizes:
            raise InputError(
                f"{where} is no base model",
                why=f"a diffusers pipeline folder holds {_INDEX}",
                fix="give the folder of a diffusers pipeline with safetensors weights",
                code="not-a-base-model",
            )

    def pieces(self, name: str) -> Iterator[bytes]:
        """Give one file's bytes, piece by piece, to its end."""
        offset = 0
        while piece := self.read(name, offset, PIECE):
            offset += len(piece)
            yield piece

    def json(self, name: str) -> Mapping[str, Any]:
        """Return a JSON object of the base; raises InputError when it is none."""
        try:
            value = json.loads(self.read(name, 0, self.sizes[name]).decode("utf-8"))
        except ValueError as error:
            raise _not_the_base(f"{name} is no JSON") from error
        if not isinstance(value, dict):
            raise _not_the_base(f"{name} is no JSON object")
        return cast("dict[str, Any]", value)

    def fingerprint(self) -> str:
        """Return the fingerprint, after hashing every file that counts."""
        hashes: dict[str, str] = {}
        for name in filter(is_base_file, self.sizes):
            digest = hashlib.sha256()
            for piece in self.pieces(name):
                digest.update(piece)
            hashes[name] = digest.hexdigest()
        return base_fingerprint(hashes)

    @cached_property
    def weights(self) -> tuple[WeightFile, ...]:
        """Every safetensors file that counts, with its checked header."""
        names = (name for name in self.sizes if is_base_file(name))
        return tuple(self._weight_file(name) for name in names if name.endswith(".safetensors"))

    def layers(self, targets: Targets = "attention") -> tuple[Layer, ...]:
        """Return the layers of UNet and text encoders that ``targets`` adapts, sorted by path."""
        found: list[Layer] = []
        for file in self.weights:
            if file.component in _ADAPTED:
                shapes = {info.name: info.shape for info in file.header.tensors}
                found += target_layers(file.component, shapes, targets)
        return tuple(sorted(found))

    def token_layers(self) -> tuple[str, ...]:
        """Return where the UNet reads the prompt, in the order in which it runs these places.

        Raises SpecError: it has no cross-attention, or places of an unknown order.
        """
        unet = [file for file in self.weights if file.component == "unet"]
        return token_layers(info.name for file in unet for info in file.header.tensors)

    def encoders(self) -> tuple[Encoder, ...]:
        """Return the text encoders, sorted by name, with the width of their token rows."""
        return tuple(
            Encoder(component, self.tokens(component).info.shape[1])
            for component in _ADAPTED[1:]
            if any(file.component == component for file in self.weights)
        )

    def tokens(self, encoder: str) -> Place:
        """Return where an encoder keeps its token rows."""
        return self._find(encoder, TOKENS)

    def place(self, layer: Layer) -> Place:
        """Return where a layer's weight lies; raises InputError when it has another shape."""
        found = self._find(layer.path.partition(".")[0], tensor_names(layer.path))
        if found.info.shape != layer.shape:
            raise _not_the_base(f"{layer.path} has shape {found.info.shape}")
        return found

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

    def measures(self, spec: FederationSpec) -> dict[str, float]:
        """Return what contributions are measured by (core/sizes.py): norms and longest rows."""
        longest = {VOCABULARY + e.name: self.longest_token(e.name) for e in spec.encoders}
        return {**dict(self.norms(spec.layers)), **longest}

    def vocabulary(self) -> tuple[str, ...]:
        """Return the words that no trigger may be: whole words of every tokenizer."""
        words: set[str] = set()
        for name in self.sizes:
            folder, _, leaf = name.partition("/")
            if folder.startswith("tokenizer") and leaf == "vocab.json":
                words.update(reserved_words(self.json(name)))
        return tuple(sorted(words))

    @property
    def prediction(self) -> str:
        """What the model predicts, in the words of file headers: ``epsilon`` or ``v``."""
        name = "scheduler/scheduler_config.json"
        said = self.json(name).get("prediction_type") if name in self.sizes else None
        return "v" if said == "v_prediction" else "epsilon"

    def _find(self, component: str, names: tuple[str, ...]) -> Place:
        for file in self.weights:
            for name in names if file.component == component else ():
                if (info := file.tensor(name)) is not None:
                    return Place(file, info)
        raise _not_the_base(f"{component} has no tensor {names[0]}")

    def _weight_file(self, name: str) -> WeightFile:
        size = self.sizes[name]
        first = self.read(name, 0, _LENGTH_BYTES)
        length = header_length(first, file_size=size)
        prefix = first + self.read(name, _LENGTH_BYTES, length)
        return WeightFile(name, parse_header(prefix, file_size=size), self.read)


def cut_short(name: str) -> InputError:
    """Return the error for a file of the base that ends before its own header says."""
    return InputError(
        f"{name} of the base model ends early",
        why="it was changed while it was read",
        fix="restore the base model's folder and run the command again",
        code="not-the-base",
    )


def _not_the_base(what: str) -> InputError:
    return InputError(
        what,
        why="the spec's layers come from the base model's own files",
        fix="use the base model folder that the federation was made from",
        code="not-the-base",
    )
