"""Which layers of a base model are adapted: its attention projections, all of them.

UNet: ``*.attn{1,2}.to_{q,k,v}`` and ``*.attn{1,2}.to_out.0``; text encoders:
``*self_attn.{q,k,v,out}_proj``. Input: the tensor names and shapes of a safetensors file, so no
library is asked. Law: a text encoder's path always says ``text_model.``, whether or not the file
does (formats.md 3.3); layers come sorted by path. Cost: one pass over the names.
"""

import re
from collections.abc import Mapping

from .layer import Layer

_UNET = re.compile(r"(.+\.attn[12]\.(?:to_[qkv]|to_out\.0))\.weight")
_TEXT = re.compile(r"(?:text_model\.)?(.+\.self_attn\.(?:q|k|v|out)_proj)\.weight")


def attention_layers(component: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Layer, ...]:
    """Return the attention projections of one file, sorted by path.

    >>> attention_layers("text_encoder", {"encoder.layers.0.self_attn.q_proj.weight": (48, 24)})
    (Layer(path='text_encoder.text_model.encoder.layers.0.self_attn.q_proj', out=48, width=24),)

    An empty tuple when there are none. Raises SpecError: a size outside 1..65536.
    """
    found: list[Layer] = []
    for name, shape in shapes.items():
        path = _module_path(name)
        if path is not None and len(shape) == 2:  # noqa: PLR2004  # a linear layer is a matrix
            found.append(Layer(f"{component}.{path}", out=shape[0], width=shape[1]))
    return tuple(sorted(found))


def tensor_names(path: str) -> tuple[str, ...]:
    """Return the names under which a file may hold the weight of the layer at ``path``.

    The component is left out; a text encoder's weight stands with or without ``text_model.``.

    >>> tensor_names("text_encoder.text_model.encoder.layers.0.self_attn.q_proj")[1]
    'encoder.layers.0.self_attn.q_proj.weight'
    """
    name = path.partition(".")[2] + ".weight"
    return (name, name[len("text_model.") :]) if name.startswith("text_model.") else (name,)


def _module_path(name: str) -> str | None:
    """Return the module path of an attention weight, None for any other tensor."""
    if (unet := _UNET.fullmatch(name)) is not None:
        return unet[1]
    if (text := _TEXT.fullmatch(name)) is not None:
        return f"text_model.{text[1]}"
    return None
