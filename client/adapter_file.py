"""Somebody's LoRA file as changes of layers, one at a time, read by our strict reader (T8).

Takes kohya's, diffusers' and PEFT's tensors (core/adapter_names.py); scale = alpha / rank, where
alpha is a tensor, a number of diffusers' metadata or of PEFT's ``adapter_config.json``, or, where
none is said, the rank. Laws: what is not understood is named and never passed over; a file that two
loaders would read differently is refused. Cost: one layer's two factors in memory.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from ..core.adapter_names import Side, module_names, split_name
from ..core.change import LowRank, held_in
from ..core.errors import InputError
from ..core.rounding import DType, exact
from ..core.spec import FederationSpec, Layer
from ..core.tensorfile import (
    STRICT,
    Header,
    Limits,
    TensorInfo,
    header_length,
    parse_header,
    read_tensor,
)

_LENGTH_BYTES: Final = 8
_CONFIG: Final = "adapter_config.json"
_CONFIG_BYTES: Final = 1 << 20
_BUNDLED: Final = "bundle_emb."
_AXES: Final = 2
"""Of each side at least: a convolution's have four."""
_FLOATS: Final = ("F16", "BF16", "F32")
Sides = dict[Side, TensorInfo]


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """One LoRA file. ``modules`` by their names in it, those of the spec and all others.

    ``strange``: tensors that are no part of a LoRA; ``bundled``: embeddings of a web UI's bundle.
    """

    path: Path
    spec: FederationSpec
    header: Header
    modules: Mapping[str, Sides]
    layers: Mapping[str, tuple[str, ...]]
    strange: tuple[str, ...]
    bundled: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, spec: FederationSpec) -> "AdapterFile":
        """Read the header of a LoRA file.

        Raises InputError: the strict reader refuses it, or it holds no LoRA.
        """
        header = read_header(path)
        modules: dict[str, Sides] = defaultdict(dict)
        strange, bundled = list[str](), list[str]()
        for info in header.tensors:
            found = split_name(info.name)
            if found is not None and found[1] not in modules.get(found[0], {}):
                if found[1] != "alpha" and (len(info.shape) < _AXES or 0 in info.shape):
                    raise _bad(f"{info.name} of shape {info.shape}", "each side is a matrix")
                modules[found[0]][found[1]] = info
            else:
                (bundled if info.name.startswith(_BUNDLED) else strange).append(info.name)
        if not modules:
            raise _bad(f"{path.name} holds no LoRA", "no tensor in it has a LoRA's name")
        known = module_names(spec, component=_component(path, spec))
        layers: dict[str, list[str]] = defaultdict(list)
        for name in modules:
            if name in known:
                layers[known[name]].append(name)
        return cls(
            path,
            spec,
            header,
            modules,
            {layer: tuple(names) for layer, names in layers.items()},
            tuple(strange),
            tuple(bundled),
        )

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The types of its tensors."""
        return tuple(sorted({info.dtype for info in self.header.tensors}))

    @property
    def foreign(self) -> tuple[str, ...]:
        """The modules that are no layer of the spec."""
        known = {name for names in self.layers.values() for name in names}
        return tuple(sorted(set(self.modules) - known))

    def change(self, layer: Layer) -> LowRank:
        """Return what the file does to ``layer``; of rank 0 where it does nothing.

        Raises InputError: the factors do not fit the layer or each other, or the layer stands there
        twice with different numbers.
        """
        found = [self._factors(name) for name in self.layers.get(layer.path, ())]
        for factors in found:
            if (factors.up.shape[0], factors.down.shape[1]) != (layer.out, layer.width):
                raise _bad(
                    f"{layer.path} of {factors.up.shape[0]} x {factors.down.shape[1]} in"
                    f" {self.path.name}, the federation's has {layer.out} x {layer.width}",
                    "it was made for another base model",
                )
        if any(not _same(found[0], other) for other in found[1:]):
            raise _bad(f"{layer.path} stands in {self.path.name} twice", "the two differ")
        if found:
            return found[0]
        return LowRank(np.zeros((layer.out, 0)), np.zeros((0, layer.width)), "F32")

    def foreign_changes(self) -> Iterator[tuple[str, float]]:
        """Give each module that is no layer of the spec, with its energy ||up down||_F^2."""
        for name in self.foreign:
            yield name, self._factors(name).energy

    def _factors(self, name: str) -> LowRank:
        sides = self.modules[name]
        if "up" not in sides or "down" not in sides:
            raise _bad(f"{name} of {self.path.name} has one side", "a LoRA has up and down")
        up, down = self._read(sides["up"]), self._read(sides["down"])
        up, down = up.reshape(len(up), -1), down.reshape(len(down), -1)
        rank = down.shape[0]
        if up.shape[1] != rank:
            raise _bad(
                f"{name}: up has {up.shape[1]} columns, down {rank} rows", "both are its rank"
            )
        dtype = cast("DType", sides["up"].dtype)
        if sides["down"].dtype != dtype:
            raise _bad(f"{name}: up is {dtype}, down {sides['down'].dtype}", "a file has one type")
        alpha = (
            float(self._read(sides["alpha"]).sum()) if "alpha" in sides else self._alpha(name, rank)
        )
        return LowRank(up, down, held_in(up, dtype), alpha / rank)

    def _read(self, info: TensorInfo) -> np.ndarray[Any, Any]:
        if info.dtype not in _FLOATS:
            raise _bad(f"{info.name} is {info.dtype}", f"a LoRA's tensors are {', '.join(_FLOATS)}")
        with self.path.open("rb") as file:
            file.seek(self.header.data_start + info.offset)
            return exact(read_tensor(info, file.read(info.size)), cast("DType", info.dtype))

    def _alpha(self, name: str, rank: int) -> float:
        """Return alpha where no tensor says it: metadata, PEFT's config, or the rank."""
        said = _object(self.header.metadata.get("lora_adapter_metadata", "{}"), "its metadata")
        prefix = name.partition(".")[0] + "."
        config = {k.removeprefix(prefix): v for k, v in said.items() if k.startswith(prefix)}
        beside = self.path.parent / _CONFIG
        if not config and name.startswith("base_model.") and beside.is_file():
            if beside.stat().st_size > _CONFIG_BYTES:
                raise _bad(f"{_CONFIG} of {beside.stat().st_size} bytes", "it has some hundred")
            config = _object(beside.read_text("utf-8", errors="replace"), _CONFIG)
        for key in ("alpha_pattern", "rank_pattern", "use_dora", "use_rslora"):
            if config.get(key):
                raise _bad(f"{key} in {self.path.name}", "loaders do not agree on what it does")
        alpha = config.get("lora_alpha", rank)
        if not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise _bad(f"lora_alpha {str(alpha)[:20]!r}", "it is a number")
        if config.get("r", rank) != rank:
            raise _bad(f"r = {str(config['r'])[:20]} in {self.path.name}", f"{name} has {rank}")
        return float(alpha)


def read_header(path: Path, limits: Limits = STRICT) -> Header:
    """Return the checked header of a safetensors file.

    Raises InputError: the reader refuses it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(_LENGTH_BYTES)
        length = header_length(first, file_size=size, limits=limits)
        return parse_header(first + file.read(length), file_size=size, limits=limits)


def _component(path: Path, spec: FederationSpec) -> str | None:
    """Return whose layers PEFT's names mean: a release's folder is called so, others anything."""
    named = path.parent.name if (path.parent / _CONFIG).is_file() else ""
    return named if any(layer.path.startswith(f"{named}.") for layer in spec.layers) else None


def _same(one: LowRank, other: LowRank) -> bool:
    return (
        one.scale == other.scale
        and np.array_equal(one.up, other.up)
        and np.array_equal(one.down, other.down)
    )


def _object(text: str, what: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"{what} is no JSON", "the scale of the LoRA stands there") from error
    if not isinstance(value, dict):
        raise _bad(f"{what} is no object", "the scale of the LoRA stands there")
    return cast("dict[str, object]", value)


def _bad(what: str, why: str) -> InputError:
    return InputError(
        what,
        why=why,
        fix="give a plain LoRA of this base model with kohya's, diffusers' or PEFT's names, or a"
        " whole checkpoint",
        code="bad-adapter",
    )
