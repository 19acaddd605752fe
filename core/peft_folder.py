"""``peft/{unet,text_encoder,text_encoder_2}/``: one PEFT adapter a component.

    base_model.model.<path>.lora_A.weight = down      base_model.model.<path>.lora_B.weight = up

`lora_A` is B_i^T and `lora_B` is lambda A_i. Law: the first text encoder has every tensor twice,
with and without ``text_model.``: transformers 5.6 dropped that from its modules, and PEFT takes no
notice of names that it does not find, so one spelling alone would load nothing on one side and not
complain. The second encoder's modules kept it. Source: formats.md 5.5.
"""

import json
from collections.abc import Iterator

from .lora_tensors import lora_tensors
from .lorafile import FileOrigin, file_rank, origin_metadata
from .merging import Merge
from .peft_settings import component_layers, peft_settings
from .release_file import PlainFile, ReleaseFile, TensorFile
from .spec import Layer

_TWICE = "text_encoder"
_TEXT_MODEL = "text_model."


def peft_files(merge: Merge, origin: FileOrigin) -> Iterator[ReleaseFile]:
    """Give configuration and tensors of each adapted component."""
    spec = merge.spec
    rank = file_rank(spec, len(merge.parts))
    for component, layers in component_layers(spec).items():
        said = {
            **peft_settings(layers, rank),
            "base_model_name_or_path": spec.base.name,
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "modules_to_save": None,
            "task_type": None,
        }
        text = json.dumps(said, indent=2, sort_keys=True) + "\n"
        yield PlainFile(f"peft/{component}/adapter_config.json", (text.encode(),))
        yield _tensors(merge, origin, component, layers, rank)


def _tensors(
    merge: Merge, origin: FileOrigin, component: str, layers: tuple[Layer, ...], rank: int
) -> TensorFile:
    named = sorted(
        (f"base_model.model.{module}.lora", layer)
        for layer in layers
        for module in _modules(component, layer)
    )
    entries: list[tuple[str, str, tuple[int, ...]]] = []
    for name, layer in named:
        pixel = tuple(1 for _ in layer.kernel)
        entries += [
            (f"{name}_A.weight", origin.dtype, (rank, *layer.shape[1:])),
            (f"{name}_B.weight", origin.dtype, (layer.out, rank, *pixel)),
        ]

    def data() -> Iterator[bytes]:
        for _, layer in named:
            made = lora_tensors(merge.spec, merge.parts, layer, rank=rank, dtype=origin.dtype)
            for tensor in made:
                yield tensor.tobytes()

    def metadata(_digest: str) -> dict[str, str]:
        return origin_metadata(origin, [part.entry for part in merge.parts], {"format": "pt"})

    return TensorFile(
        name=f"peft/{component}/adapter_model.safetensors",
        kind="peft",
        dtype=origin.dtype,
        entries=tuple(entries),
        data=data(),
        metadata=metadata,
    )


def _modules(component: str, layer: Layer) -> tuple[str, ...]:
    module = layer.path.partition(".")[2]
    if component == _TWICE and module.startswith(_TEXT_MODEL):
        return module, module.removeprefix(_TEXT_MODEL)
    return (module,)
