"""The LoRA and embedding files of a release (formats.md 4, 5.2 and 6).

``lora/<fed>-<rel>.safetensors``: all concepts stacked, the canonical artifact. ``concepts/``: one
each, whose columns are the stacked file's. ``embeddings/<trigger>.safetensors``: the learned
vectors, exact; ``layerwise/<trigger>.safetensors`` instead where there is a set of them for each
token layer: [layers, v, width]. Law: bytes depend on content only, except that a file's *name*
carries the release. In PEFT's names down is `lora_A`, up is `lora_B`. Cost: one layer's tensors.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from .lora_tensors import lora_tensors
from .lorafile import (
    FileOrigin,
    embedding_folder,
    embedding_keys,
    embedding_metadata,
    file_rank,
    kohya_key,
    lora_entries,
    lora_metadata,
)
from .merging import Merge, Part
from .release_file import TensorFile
from .rounding import DType, round_once
from .spec import FederationSpec


def release_tag(n: int) -> str:
    """Return ``r`` and the release number in four digits.

    >>> release_tag(7)
    'r0007'
    """
    return f"r{n:04d}"


def lora_files(merge: Merge, origin: FileOrigin, *, n: int) -> Iterator[TensorFile]:
    """Give the stacked file of release ``n``."""
    name = f"lora/{merge.spec.name}-{release_tag(n)}.safetensors"
    yield _lora(name, merge.spec, merge.parts, origin)


def concept_files(merge: Merge, origin: FileOrigin) -> Iterator[TensorFile]:
    """Give one file a concept."""
    for part in merge.parts:
        name = f"concepts/{merge.spec.name}-{part.manifest.concept}.safetensors"
        yield _lora(name, merge.spec, (part,), origin)


def embedding_files(merge: Merge, origin: FileOrigin) -> Iterator[TensorFile]:
    """Give one file a trigger; with two encoders, ``clip_g`` and ``clip_l``."""
    for part in merge.parts:
        for k, trigger in enumerate(part.manifest.triggers):
            yield _embedding(merge.spec, part, k, trigger, origin)


def _lora(name: str, spec: FederationSpec, parts: Sequence[Part], origin: FileOrigin) -> TensorFile:
    single = name.startswith("concepts/")
    rank = file_rank(spec, len(parts))

    def metadata(digest: str) -> dict[str, str]:
        told = [part.entry for part in parts]
        return lora_metadata(origin, told, rank=rank, tensor_hash=digest, single=single)

    return TensorFile(
        name=name,
        kind="concept" if single else "lora",
        dtype=origin.dtype,
        entries=tuple((key, origin.dtype, shape) for key, shape in lora_entries(spec, rank)),
        data=lora_data(spec, parts, rank, origin.dtype),
        metadata=metadata,
    )


def lora_data(
    spec: FederationSpec, parts: Sequence[Part], rank: int, dtype: DType
) -> Iterator[bytes]:
    """Give alpha, down and up of each layer, in the order of the file: by key."""
    by_key = sorted((kohya_key(layer.path, spec.base.family), layer) for layer in spec.layers)
    for _, layer in by_key:
        yield round_once(np.array(float(rank)), dtype).tobytes()
        for tensor in lora_tensors(spec, parts, layer, rank=rank, dtype=dtype):
            yield tensor.tobytes()


def _embedding(
    spec: FederationSpec, part: Part, k: int, trigger: str, origin: FileOrigin
) -> TensorFile:
    keys = {key: name for name, key in embedding_keys(spec.encoders, trigger).items()}
    rows = {key: part.embedding(name, k) for key, name in sorted(keys.items())}
    if spec.token_layers:
        sets = spec.token_sets
        rows = {key: v.reshape(sets, len(v) // sets, v.shape[1]) for key, v in rows.items()}

    def metadata(digest: str) -> dict[str, str]:
        return embedding_metadata(origin, part.entry, trigger=trigger, tensor_hash=digest)

    return TensorFile(
        name=f"{embedding_folder(spec)}/{trigger}.safetensors",
        kind="layerwise" if spec.token_layers else "embedding",
        dtype="F32",
        entries=tuple((key, "F32", values.shape) for key, values in rows.items()),
        data=(values.astype("<f4").tobytes() for values in rows.values()),
        metadata=metadata,
    )
