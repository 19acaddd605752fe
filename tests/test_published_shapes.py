"""The published base models by their configs alone: no weights, tensors on the "meta" device.

The widths are those of the config.json files of stable-diffusion-v1-5, stable-diffusion-2-1 and
stable-diffusion-xl-base-1.0. What is checked is all that weights do not decide: how many layers are
adapted, how wide, under which names, how many concepts fit (formats.md 3.1).
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from orthofed.core.hadamard import supported
from orthofed.core.layer import Layer
from orthofed.core.published import PublishedModel, published_layers
from orthofed.core.slots import capacity
from orthofed.core.targets import TARGETS, Targets, target_layers
from orthofed.core.token_layers import token_layers

_SD: dict[str, Any] = {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2}
SD1: dict[str, Any] = {
    **_SD,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "sample_size": 64,
}
SD2 = {
    **_SD,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "sample_size": 96,
    "use_linear_projection": True,
    "upcast_attention": True,
}
SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "sample_size": 128,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
CLIP_L: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
OPEN_CLIP_H: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
}
OPEN_CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
}


CONVOLVED = {960, 1920, 2560, 2880, 5760, 8640, 11520, 17280, 23040}
"""Inputs of residual blocks whose skip connections widen them, and 9 x channels."""


@dataclass(frozen=True)
class Preset:
    counts: tuple[int, ...]  # of the UNet and the text encoders
    widths: set[int]
    capacity: int  # at rank 20


@dataclass(frozen=True)
class Published:
    unet: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    presets: dict[Targets, Preset]
    token_layers: int  # with a place for the pooled vector where there is one


MODELS: dict[PublishedModel, Published] = {
    "sd15": Published(
        SD1,
        (CLIP_L,),
        {
            "unet": Preset((128, 0), {320, 640, 768, 1280}, 16),
            "attention": Preset((128, 48), {320, 640, 768, 1280}, 16),
            "linear": Preset((182, 72), {320, 640, 768, 1280, 2560, 3072, 5120}, 16),
            "all": Preset((278, 72), {320, 640, 768, 1280, 3072, 5120} | CONVOLVED, 16),
        },
        token_layers=16,
    ),
    "sd21": Published(
        SD2,
        (OPEN_CLIP_H,),
        {
            "unet": Preset((128, 0), {320, 640, 1024, 1280}, 16),
            "attention": Preset((128, 92), {320, 640, 1024, 1280}, 16),
            "linear": Preset((214, 138), {320, 640, 1024, 1280, 2560, 4096, 5120}, 16),
            "all": Preset((278, 138), {320, 640, 1024, 1280, 4096, 5120} | CONVOLVED, 16),
        },
        token_layers=16,
    ),
    "sdxl": Published(
        SDXL,
        (CLIP_L, OPEN_CLIP_G),
        {
            "unet": Preset((560, 0, 0), {640, 1280, 2048}, 32),
            "attention": Preset((560, 48, 128), {640, 768, 1280, 2048}, 32),
            "linear": Preset((739, 72, 192), {640, 768, 1280, 2048, 2560, 3072, 5120}, 32),
            # One shortcut reads 320 channels and halves what fits.
            "all": Preset((788, 72, 192), {320, 640, 768, 1280, 2048, 3072, 5120} | CONVOLVED, 16),
        },
        token_layers=71,
    ),
}
COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> tuple[PublishedModel, dict[str, nn.Module]]:
    """One model's networks without weights, by component."""
    said = MODELS[request.param]
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    with torch.device("meta"):
        made: dict[str, nn.Module] = {"unet": UNet2DConditionModel(**said.unet)}
        for kind, text, name in zip(kinds, said.texts, COMPONENTS[1:], strict=False):
            made[name] = kind(CLIPTextConfig(**text))
    return request.param, made


def _layers(made: dict[str, nn.Module], targets: Targets) -> tuple[Layer, ...]:
    found: list[Layer] = []
    for component, module in made.items():
        shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        found += target_layers(component, shapes, targets)
    return tuple(sorted(found))


@pytest.mark.parametrize("targets", TARGETS)
def test_counts_widths_and_capacity_are_the_published_models(
    model: tuple[PublishedModel, dict[str, nn.Module]], targets: Targets
) -> None:
    """formats.md 3.1 for attention; kohya's own counts for the rest; every width has a basis."""
    name, made = model
    said = MODELS[name].presets[targets]

    layers = _layers(made, targets)

    counts = Counter(layer.path.partition(".")[0] for layer in layers)
    assert tuple(counts[component] for component in COMPONENTS[: len(made)]) == said.counts
    widths = {layer.width for layer in layers}
    assert widths == said.widths
    assert capacity(layers, dict.fromkeys(widths, 20)) == said.capacity
    assert all(supported(width) for width in widths)


def test_cross_attention_reads_the_text_encoders_side_by_side(
    model: tuple[PublishedModel, dict[str, nn.Module]],
) -> None:
    """Keys and values are as wide as all encoders' features together."""
    name, made = model
    said = MODELS[name]

    keys = [x for x in _layers(made, "all") if x.path.endswith(("attn2.to_k", "attn2.to_v"))]

    text = said.unet["cross_attention_dim"]
    assert {layer.width for layer in keys} == {text}
    assert sum(part["hidden_size"] for part in said.texts) == text
    assert len(token_layers(made["unet"].state_dict())) == said.token_layers


@pytest.mark.parametrize("targets", TARGETS)
def test_the_table_of_published_shapes_is_what_the_libraries_build(
    model: tuple[PublishedModel, dict[str, nn.Module]], targets: Targets
) -> None:
    """core/published.py, whose check sums stand in formats.md 3.2, layer by layer."""
    name, made = model

    assert published_layers(name, targets) == _layers(made, targets)
