"""The LoRA and embedding files of a release (formats.md 4, 5.2 and 6).

``lora/<fed>-<rel>.safetensors``: all concepts stacked, the canonical artifact. ``concepts/``: one
each, whose columns are the stacked file's. ``embeddings/<trigger>.safetensors``: the learned
vectors, exact; ``layerwise/<trigger>.safetensors`` instead where there is a set of them for each
token layer: [layers, v, width]. Law: bytes depend on content only, except that a file's *name*
carries the release. A concept's own files are taken from the release before, if it has them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from ..core.release import FileEntry
from ..core.spec import FederationSpec
from ..core.stack import stacked
from .carried import Carried
from .fs import Fs
from .merging import Merge, Part
from .tensorwriter import Entry, write_tensors


@dataclass(frozen=True, slots=True)
class MadeFile:
    """One file of tensors: its name in the release, kind, type and tensor hash.

    ``entry``: its length and hashes, where they are known already.
    """

    name: str
    kind: str
    dtype: str
    tensors: str
    entry: FileEntry | None = None


def release_tag(n: int) -> str:
    """Return ``r`` and the release number in four digits.

    >>> release_tag(7)
    'r0007'
    """
    return f"r{n:04d}"


def write_loras(
    out: Path, merge: Merge, origin: FileOrigin, *, n: int, carried: Carried, fs: Fs
) -> Iterator[MadeFile]:
    """Write the stacked file and one file a concept."""
    name = f"lora/{merge.spec.name}-{release_tag(n)}.safetensors"
    yield _write_lora(out, name, merge, merge.parts, origin, carried, fs)
    for part in merge.parts:
        name = f"concepts/{merge.spec.name}-{part.manifest.concept}.safetensors"
        yield _write_lora(out, name, merge, (part,), origin, carried, fs)


def _write_lora(  # one file's whole content
    out: Path,
    name: str,
    merge: Merge,
    parts: Sequence[Part],
    origin: FileOrigin,
    carried: Carried,
    fs: Fs,
) -> MadeFile:
    single = name.startswith("concepts/")
    rank = file_rank(merge.spec, len(parts))
    entries = [(key, "F16", shape) for key, shape in lora_entries(merge.spec, rank)]

    def metadata(digest: str) -> dict[str, str]:
        told = [part.entry for part in parts]
        return lora_metadata(origin, told, rank=rank, tensor_hash=digest, single=single)

    data = _lora_data(merge.spec, parts, rank)
    kind = "concept" if single else "lora"
    return _made(out, MadeFile(name, kind, "F16", ""), entries, data, metadata, carried, fs)


def _made(  # one file, whichever way it comes
    out: Path,
    file: MadeFile,
    entries: Sequence[Entry],
    data: Iterable[bytes],
    metadata: Callable[[str], dict[str, str]],
    carried: Carried,
    fs: Fs,
) -> MadeFile:
    """Carry the file over, or write it; ``data`` is not asked for anything before that."""
    tensors = carried.take(out, file.name, entries, metadata=metadata, fs=fs)
    if tensors is not None:
        return replace(file, tensors=tensors, entry=carried.files[file.name])
    tensors = write_tensors(out / file.name, entries, data, metadata=metadata, fs=fs)
    return replace(file, tensors=tensors)


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


def write_embeddings(
    out: Path, merge: Merge, origin: FileOrigin, *, carried: Carried, fs: Fs
) -> Iterator[MadeFile]:
    """Write one file a trigger; with two encoders, ``clip_g`` and ``clip_l``."""
    for part in merge.parts:
        for k, trigger in enumerate(part.manifest.triggers):
            yield _write_embedding(out, merge.spec, part, k, trigger, origin, carried, fs)


def _write_embedding(  # one file's whole content
    out: Path,
    spec: FederationSpec,
    part: Part,
    k: int,
    trigger: str,
    origin: FileOrigin,
    carried: Carried,
    fs: Fs,
) -> MadeFile:
    keys = {key: name for name, key in embedding_keys(spec.encoders, trigger).items()}
    rows = {key: part.embedding(name, k) for key, name in sorted(keys.items())}
    if spec.token_layers:
        sets = spec.token_sets
        rows = {key: v.reshape(sets, len(v) // sets, v.shape[1]) for key, v in rows.items()}
    entries = [(key, "F32", values.shape) for key, values in rows.items()]
    name = f"{embedding_folder(spec)}/{trigger}.safetensors"
    file = MadeFile(name, "layerwise" if spec.token_layers else "embedding", "F32", "")

    def metadata(digest: str) -> dict[str, str]:
        return embedding_metadata(origin, part.entry, trigger=trigger, tensor_hash=digest)

    data = (values.astype("<f4").tobytes() for values in rows.values())
    return _made(out, file, entries, data, metadata, carried, fs)
