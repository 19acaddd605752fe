"""Which layers of a base model are adapted: a preset, decided by tensor names and shapes alone.

``attention`` (the default): q, k, v and output projections of UNet and text encoders; ``unet``
those of the UNet alone, so that a concept changes no text but by its own words. ``linear`` adds
what is linear in the UNet's transformers and residual blocks and in the text encoders' MLPs.
``all`` adds the convolutions of residual blocks and samplers, unfolded (core/layer.py), and the 1x1
projections that Stable Diffusion 1 has in place of linear ones.

Left out on purpose: ``conv_in``, whose 4 x 3 x 3 inputs hold one concept of rank 20 and would be
the capacity of all the others; ``conv_out``, the time and size embeddings, the text projection,
which kohya's trainer leaves alone too, so no loader can be counted on to know them.

Input: names and shapes of a safetensors file, so no library is asked. Law: a text encoder's path
always says ``text_model.``, whether or not the file does (formats.md 3.3); layers come sorted by
path; a larger preset holds the smaller. Cost: one pass over the names.
"""

import re
from collections.abc import Mapping
from typing import Literal, get_args

from .layer import Layer

Targets = Literal["unet", "attention", "linear", "all"]
TARGETS: tuple[Targets, ...] = get_args(Targets)
"""Smallest first."""

_MATRIX, _KERNEL = 2, 4
_PROJECTION = r".+\.attentions\.\d+\.proj_(?:in|out)"
_UNET: Mapping[Targets, re.Pattern[str]] = {
    "unet": re.compile(r".+\.attn[12]\.(?:to_[qkv]|to_out\.0)"),
    "linear": re.compile(
        rf"{_PROJECTION}|.+\.transformer_blocks\.\d+\.ff\.net\.(?:0\.proj|2)"
        r"|.+\.resnets\.\d+\.time_emb_proj"
    ),
    "all": re.compile(
        rf"{_PROJECTION}|.+\.resnets\.\d+\.conv(?:1|2|_shortcut)"
        r"|.+\.(?:downsamplers|upsamplers)\.0\.conv"
    ),
}
_TEXT: Mapping[Targets, re.Pattern[str]] = {
    "attention": re.compile(r".+\.self_attn\.(?:q|k|v|out)_proj"),
    "linear": re.compile(r".+\.mlp\.fc[12]"),
}
_PREFIX = "text_model."


def target_layers(
    component: str, shapes: Mapping[str, tuple[int, ...]], targets: Targets = "attention"
) -> tuple[Layer, ...]:
    """Return the layers of one component's file that ``targets`` adapts, sorted by path.

    >>> target_layers("unet", {"mid_block.resnets.0.conv1.weight": (8, 4, 3, 3)}, "all")
    (Layer(path='unet.mid_block.resnets.0.conv1', out=8, width=36, kernel=(3, 3), order=()),)

    An empty tuple when there are none. Raises SpecError: a size outside its bounds.
    """
    presets = TARGETS[: TARGETS.index(targets) + 1]
    found: list[Layer] = []
    for name, shape in shapes.items():
        path = _adapted(component, name, len(shape), presets)
        if path is not None:
            found.append(_layer(f"{component}.{path}", shape))
    return tuple(sorted(found))


def tensor_names(path: str) -> tuple[str, ...]:
    """Return the names under which a file may hold the weight of the layer at ``path``.

    The component is left out; a text encoder's weight stands with or without ``text_model.``.

    >>> tensor_names("text_encoder.text_model.encoder.layers.0.self_attn.q_proj")[1]
    'encoder.layers.0.self_attn.q_proj.weight'
    """
    name = path.partition(".")[2] + ".weight"
    return (name, name[len(_PREFIX) :]) if name.startswith(_PREFIX) else (name,)


def _adapted(component: str, name: str, num_axes: int, presets: tuple[Targets, ...]) -> str | None:
    """Return the path inside the component of a weight that one of ``presets`` adapts."""
    module, dot, leaf = name.rpartition(".")
    if not dot or leaf != "weight":
        return None
    text = component.startswith("text_encoder")
    if not text and component != "unet":
        return None
    module = module.removeprefix(_PREFIX) if text else module
    for preset in presets:
        pattern = (_TEXT if text else _UNET).get(preset)
        wanted = _KERNEL if preset == "all" else _MATRIX
        if pattern is not None and num_axes == wanted and pattern.fullmatch(module):
            return f"{_PREFIX}{module}" if text else module
    return None


def _layer(path: str, shape: tuple[int, ...]) -> Layer:
    if len(shape) == _MATRIX:
        return Layer(path, out=shape[0], width=shape[1])
    out, channels, height, width = shape
    return Layer(path, out=out, width=channels * height * width, kernel=(height, width))
