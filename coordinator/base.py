"""The base model's folder, read without torch: hashes, headers, one tensor at a time.

Laws: files are hashed first and then read by the strict reader (security.md 6); a layer's weight is
found by the spec's path, with or without ``text_model.`` (formats.md 3.3); no checkpoint is ever
whole in memory. Cost: hashing is one pass over the folder, everything else reads headers and single
tensors. Not here: what makes two folders the same model (core/fingerprint.py).
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..core.errors import InputError
from ..core.fingerprint import base_fingerprint, is_base_file
from ..core.rounding import DType, exact
from ..core.spec import Encoder, Layer
from ..core.targets import Targets, target_layers, tensor_names
from ..core.tensorfile import Header, TensorInfo, header_length, parse_header, read_tensor
from ..core.token_layers import token_layers
from ..core.vocabulary import reserved_words
from .blobs import sha256_of

TOKENS = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
"""The two names under which a text encoder keeps its token rows."""
_ADAPTED = ("unet", "text_encoder", "text_encoder_2")
_LENGTH_BYTES = 8
_POWER_STEPS = 64
_SMALL = 512


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One safetensors file of the base: ``name`` is relative to the base's folder."""

    name: str
    path: Path
    component: str
    header: Header
    prefix_bytes: int

    def tensor(self, name: str) -> TensorInfo | None:
        """Return where one tensor lies."""
        return next((info for info in self.header.tensors if info.name == name), None)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one adapted weight or token matrix lies."""

    file: WeightFile
    info: TensorInfo

    @property
    def dtype(self) -> DType:
        """The tensor's type."""
        return cast("DType", self.info.dtype)

    def read(self) -> np.ndarray[Any, Any]:
        """Return the values as stored; BF16 comes as uint16. Raises InputError: not finite."""
        with self.file.path.open("rb") as file:
            file.seek(self.file.prefix_bytes + self.info.offset)
            return read_tensor(self.info, file.read(self.info.size))

    def matrix(self) -> np.ndarray[Any, Any]:
        """Return the values as n x m: a convolution's kernels one a row (core/layer.py)."""
        return self.read().reshape(self.info.shape[0], -1)


class BaseFolder:
    """A diffusers pipeline folder with safetensors weights."""

    def __init__(self, root: Path) -> None:
        """Name the folder; raises InputError when it is no pipeline."""
        self.root = root
        if not (root / "model_index.json").is_file():
            raise InputError(
                f"{root} is no base model",
                why="a diffusers pipeline folder holds model_index.json",
                fix="give the folder of a diffusers pipeline with safetensors weights",
                code="not-a-base-model",
            )

    def names(self) -> tuple[str, ...]:
        """Return the relative names of all regular files, sorted."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        return tuple(sorted(path.relative_to(self.root).as_posix() for path in found))

    def fingerprint(self) -> str:
        """Return the fingerprint, after hashing every file that counts."""
        hashes = {name: sha256_of(self.root / name) for name in self.names() if is_base_file(name)}
        return base_fingerprint(hashes)

    @cached_property
    def weights(self) -> tuple[WeightFile, ...]:
        """Every safetensors file that counts, with its checked header."""
        names = (name for name in self.names() if is_base_file(name))
        return tuple(
            _weight_file(self.root, name) for name in names if name.endswith(".safetensors")
        )

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

    def _find(self, component: str, names: tuple[str, ...]) -> Place:
        for file in self.weights:
            for name in names if file.component == component else ():
                if (info := file.tensor(name)) is not None:
                    return Place(file, info)
        raise _not_the_base(f"{component} has no tensor {names[0]}")

    def vocabulary(self) -> tuple[str, ...]:
        """Return the words that no trigger may be: whole words of every tokenizer."""
        words: set[str] = set()
        for path in sorted(self.root.glob("tokenizer*/vocab.json")):
            words.update(reserved_words(read_json(path)))
        return tuple(sorted(words))

    @property
    def prediction(self) -> str:
        """What the model predicts, in the words of file headers: ``epsilon`` or ``v``."""
        path = self.root / "scheduler" / "scheduler_config.json"
        said = read_json(path).get("prediction_type") if path.is_file() else None
        return "v" if said == "v_prediction" else "epsilon"

    def norms(self, layers: tuple[Layer, ...]) -> Iterator[tuple[str, float]]:
        """Give the spectral norm of each layer's n x m weight, by path."""
        for layer in layers:
            place = self.place(layer)
            yield layer.path, spectral_norm(exact(place.matrix(), place.dtype))


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


def read_json(path: Path) -> Mapping[str, Any]:
    """Return a JSON object of the base; raises InputError when it is none."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise _not_the_base(f"{path.name} is no JSON") from error
    if not isinstance(value, dict):
        raise _not_the_base(f"{path.name} is no JSON object")
    return value


def _weight_file(root: Path, name: str) -> WeightFile:
    path = root / name
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(_LENGTH_BYTES)
        length = header_length(first, file_size=size)
        header = parse_header(first + file.read(length), file_size=size)
    component = name.partition("/")[0]
    return WeightFile(name, path, component, header, header.data_start)


def _not_the_base(what: str) -> InputError:
    return InputError(
        what,
        why="the spec's layers come from the base model's own files",
        fix="use the base model folder that the federation was made from",
        code="not-the-base",
    )
