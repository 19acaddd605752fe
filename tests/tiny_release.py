"""The files of a release that a model is built from, written with core alone: no coordinator."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from orthofed.core.lorafile import embedding_keys, kohya_key
from orthofed.core.merge import Term
from orthofed.core.quantise import Quantised, dequantise
from orthofed.core.rounding import DType
from orthofed.core.spec import FederationSpec
from orthofed.core.spec_blocks import integer_block
from orthofed.core.stack import stacked
from orthofed.core.tensorfile import header_bytes

Contribution = tuple[int, str, Mapping[str, Quantised]]  # slot, trigger, tensors
_CODES = {"<f2": "F16", "<f4": "F32"}


def write_release(
    folder: Path,
    spec: FederationSpec,
    contributions: Sequence[Contribution],
    *,
    lambda_1024: int = 1024,
    dtype: DType = "F16",
) -> Path:
    """Write lora/, embeddings/ and the part of info.json that scoring reads."""
    rank = max(spec.layer_rank(layer) for layer in spec.layers) * len(contributions)
    tensors: dict[str, np.ndarray] = {}
    for layer in spec.layers:
        terms = [
            Term(
                tensors_of[f"a.{layer.path}"].q,
                tensors_of[f"a.{layer.path}"].exponent,
                lambda_1024,
                block_of(spec, layer.path, slot),
            )
            for slot, _, tensors_of in contributions
        ]
        up, down = stacked(
            terms, family=spec.basis, width=layer.width, out=layer.out, rank=rank, dtype=dtype
        )
        key = kohya_key(layer.path, spec.base.family)
        tensors[f"{key}.lora_up.weight"] = up.reshape(*up.shape, *(1 for _ in layer.kernel))
        tensors[f"{key}.lora_down.weight"] = down.reshape(-1, *layer.shape[1:])
        tensors[f"{key}.alpha"] = np.array(rank, up.dtype)
    write_tensors(folder / "lora" / "tiny-r0001.safetensors", tensors)
    for _, trigger, tensors_of in contributions:
        keys = embedding_keys(spec.encoders, trigger)
        rows = {key: dequantise(tensors_of[f"embed.{name}.0"]) for name, key in keys.items()}
        write_tensors(folder / "embeddings" / f"{trigger}.safetensors", rows)
    concepts = [
        {"concept": trigger, "lambda": lambda_1024, "slot": slot, "triggers": []}
        for slot, trigger, _ in contributions
    ]
    (folder / "info.json").write_text(json.dumps({"concepts": concepts}))
    return folder


def block_of(spec: FederationSpec, path: str, slot: int) -> np.ndarray:
    """Return the integer block of ``slot`` in the layer at ``path``."""
    return integer_block(spec, next(layer for layer in spec.layers if layer.path == path), slot)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file with core's own header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [(name, _CODES[a.dtype.str], a.shape) for name, a in tensors.items()]
    data = b"".join(tensors[name].tobytes() for name in sorted(tensors))
    path.write_bytes(header_bytes(entries, {}) + data)
