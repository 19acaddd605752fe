"""``diffusers/pytorch_lora_weights.safetensors``: the stacked LoRA under diffusers' own names.

    <id>.lora_A.weight = down [R, m]      <id>.lora_B.weight = up [n, R]      no alpha tensors

`lora_A` is B_i^T and `lora_B` is lambda A_i. Ids say ``text_model.`` whatever the library's modules
are called today (formats.md 3.3); alpha and rank stand in the header, one group a component. Law:
the tensors are the stacked file's, bit for bit. Source: formats.md 5.4.
"""

import json
from collections.abc import Iterator

from .lora_tensors import lora_tensors
from .lorafile import FileOrigin, file_rank, origin_metadata
from .merging import Merge
from .peft_settings import component_layers, peft_settings
from .release_file import TensorFile


def diffusers_files(merge: Merge, origin: FileOrigin) -> Iterator[TensorFile]:
    """Give the one file."""
    spec, parts = merge.spec, merge.parts
    rank = file_rank(spec, len(parts))
    entries: list[tuple[str, str, tuple[int, ...]]] = []
    for layer in spec.layers:
        pixel = tuple(1 for _ in layer.kernel)
        entries += [
            (f"{layer.path}.lora_A.weight", origin.dtype, (rank, *layer.shape[1:])),
            (f"{layer.path}.lora_B.weight", origin.dtype, (layer.out, rank, *pixel)),
        ]

    def data() -> Iterator[bytes]:
        # The names' order, which is not the paths': "a.b.lora" comes after "a.b.c".
        for layer in sorted(spec.layers, key=lambda each: f"{each.path}.lora"):
            for tensor in lora_tensors(spec, parts, layer, rank=rank, dtype=origin.dtype):
                yield tensor.tobytes()

    settings = {
        f"{component}.{key}": value
        for component, layers in component_layers(spec).items()
        for key, value in peft_settings(layers, rank).items()
    }
    told = json.dumps(settings, sort_keys=True, separators=(",", ":"))

    def metadata(_digest: str) -> dict[str, str]:
        said = {"format": "pt", "lora_adapter_metadata": told}
        return origin_metadata(origin, [part.entry for part in parts], said)

    yield TensorFile(
        name="diffusers/pytorch_lora_weights.safetensors",
        kind="diffusers",
        dtype=origin.dtype,
        entries=tuple(entries),
        data=data(),
        metadata=metadata,
    )
