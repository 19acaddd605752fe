"""The LoRA and embedding files of a release (formats.md 4, 5.2 and 6).

``lora/<fed>-<rel>.safetensors``: all concepts stacked, the canonical artifact. ``concepts/``: one
each, whose columns are the stacked file's. ``embeddings/<trigger>.safetensors``: the learned
vectors, exact; ``layerwise/<trigger>.safetensors`` instead where there is a set of them for each
token layer: [layers, v, width]. Law: bytes depend on content only, except that a file's *name*
carries the release.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.lorafile import (
    FileOrigin,
    embedding_folder,
    embedding_keys,
    embedding_metadata,
    file_rank,
    kohya_key,
    lora_entries,
    lora_metadata,
)
from ..core.spec import FederationSpec
from ..core.stack import stacked
from .fs import Fs
from .merging import Merge, Part
from .tensorwriter import write_tensors


@dataclass(frozen=True, slots=True)
class MadeFile:
    """One file of tensors: its name in the release, kind, type and tensor hash."""

    name: str
    kind: str
    dtype: str
    tensors: str


def release_tag(n: int) -> str:
    """Return ``r`` and the release number in four digits.

    >>> release_tag(7)
    'r0007'
    """
    return f"r{n:04d}"


def write_loras(
    out: Path, merge: Merge, origin: FileOrigin, *, n: int, fs: Fs
) -> Iterator[MadeFile]:
    """Write the stacked file and one file a concept."""
    name = f"lora/{merge.spec.name}-{release_tag(n)}.safetensors"
    yield _write_lora(out, name, merge, merge.parts, origin, fs)
    for part in merge.parts:
        name = f"concepts/{merge.spec.name}-{part.manifest.concept}.safetensors"
        yield _write_lora(out, name, merge, (part,), origin, fs)


def _write_lora(  # one file's whole content
    out: Path, name: str, merge: Merge, parts: Sequence[Part], origin: FileOrigin, fs: Fs
) -> MadeFile:
    single = name.startswith("concepts/")
    rank = file_rank(merge.spec, len(parts))
    entries = [(key, "F16", shape) for key, shape in lora_entries(merge.spec, rank)]
    tensors = write_tensors(
        out / name,
        entries,
        _lora_data(merge.spec, parts, rank),
        metadata=lambda digest: lora_metadata(
            origin,
            [part.entry for part in parts],
            rank=rank,
            tensor_hash=digest,
            single=single,
        ),
        fs=fs,
    )
    return MadeFile(name, "concept" if single else "lora", "F16", tensors)


def _lora_data(spec: FederationSpec, parts: Sequence[Part], rank: int) -> Iterator[bytes]:
    """Give alpha, down and up of each layer, in the order of the file: by key."""
    by_key = sorted((kohya_key(layer.path, spec.base.family), layer) for layer in spec.layers)
    for _, layer in by_key:
        up, down = stacked(
            [part.term(spec, layer) for part in parts],
            family=spec.basis,
            width=layer.width,
            out=layer.out,
            rank=rank,
            dtype="F16",
        )
        yield np.array(rank, dtype="<f2").tobytes()
        yield down.tobytes()
        yield up.tobytes()


def write_embeddings(out: Path, merge: Merge, origin: FileOrigin, *, fs: Fs) -> Iterator[MadeFile]:
    """Write one file a trigger; with two encoders, ``clip_g`` and ``clip_l``."""
    for part in merge.parts:
        for k, trigger in enumerate(part.manifest.triggers):
            yield _write_embedding(out, merge.spec, part, k, trigger, origin, fs)


def _write_embedding(  # one file's whole content
    out: Path,
    spec: FederationSpec,
    part: Part,
    k: int,
    trigger: str,
    origin: FileOrigin,
    fs: Fs,
) -> MadeFile:
    keys = {key: name for name, key in embedding_keys(spec.encoders, trigger).items()}
    rows = {key: part.embedding(name, k) for key, name in sorted(keys.items())}
    if spec.token_layers:
        sets = spec.token_sets
        rows = {key: v.reshape(sets, len(v) // sets, v.shape[1]) for key, v in rows.items()}
    name = f"{embedding_folder(spec)}/{trigger}.safetensors"
    tensors = write_tensors(
        out / name,
        [(key, "F32", values.shape) for key, values in rows.items()],
        (values.astype("<f4").tobytes() for values in rows.values()),
        metadata=lambda digest: embedding_metadata(
            origin, part.entry, trigger=trigger, tensor_hash=digest
        ),
        fs=fs,
    )
    return MadeFile(name, "layerwise" if spec.token_layers else "embedding", "F32", tensors)
