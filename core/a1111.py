"""``lora/<fed>-<rel>-a1111.safetensors``: the stacked file and every trigger's vectors in one.

For AUTOMATIC1111 alone, which then knows the triggers without files of their own:

    bundle_emb.<trigger>.string_to_param.*        one text encoder; the `*` is a star
    bundle_emb.<trigger>.clip_g, .clip_l          two

in the file's one type, so vectors are rounded here and exact only in ``embeddings/``. diffusers
refuses such a file and Forge may drop it, which is why the stacked file has none. With layer-wise
tokens there is no such file: nothing there reads them. Source: formats.md 5.3.
"""

from collections.abc import Iterator

import numpy as np

from .lorafile import FileOrigin, embedding_keys, file_rank, lora_entries, lora_metadata
from .loras import lora_data, release_tag
from .merging import Merge
from .release_file import TensorFile
from .rounding import round_once

_ONE_ENCODER = "string_to_param.*"


def a1111_files(merge: Merge, origin: FileOrigin, *, n: int) -> Iterator[TensorFile]:
    """Give the bundle of release ``n``; nothing where the triggers are layer-wise."""
    spec = merge.spec
    if spec.token_layers:
        return
    rank = file_rank(spec, len(merge.parts))
    rows = sorted(
        (_key(encoder, trigger, len(spec.encoders)), shape, part, name, k)
        for part in merge.parts
        for k, trigger in enumerate(part.manifest.triggers)
        for name, encoder in embedding_keys(spec.encoders, trigger).items()
        for shape in [(part.layout.vectors[k], _width(merge, name))]
    )
    entries = [(key, origin.dtype, shape) for key, shape, *_ in rows]
    entries += [(key, origin.dtype, shape) for key, shape in lora_entries(spec, rank)]

    def data() -> Iterator[bytes]:
        for _, _, part, name, k in rows:  # "bundle_emb" comes before "lora"
            vectors = part.embedding(name, k).astype(np.float64)
            yield round_once(vectors, origin.dtype).tobytes()
        yield from lora_data(spec, merge.parts, rank, origin.dtype)

    def metadata(digest: str) -> dict[str, str]:
        told = [part.entry for part in merge.parts]
        return lora_metadata(origin, told, rank=rank, tensor_hash=digest)

    yield TensorFile(
        name=f"lora/{spec.name}-{release_tag(n)}-a1111.safetensors",
        kind="a1111",
        dtype=origin.dtype,
        entries=tuple(entries),
        data=data(),
        metadata=metadata,
    )


def _key(encoder: str, trigger: str, num_encoders: int) -> str:
    return f"bundle_emb.{trigger}.{_ONE_ENCODER if num_encoders == 1 else encoder}"


def _width(merge: Merge, name: str) -> int:
    return next(encoder.width for encoder in merge.spec.encoders if encoder.name == name)
