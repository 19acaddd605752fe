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

from orthofed.core.layer import Layer
from orthofed.core.slots import capacity
from orthofed.core.targets import attention_layers
from orthofed.core.token_layers import token_layers

from .base_shapes import sd1_layers, sdxl_layers

_SD: dict[str, Any] = {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2}
SD1 = {**_SD, "cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64}
SD2 = {
    **_SD,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "sample_size": 96,
    "use_linear_projection": True,
    "upcast_attention": True,
}
SDXL = {
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
CLIP_L = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
OPEN_CLIP_H = {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16}
OPEN_CLIP_G = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20}


@dataclass(frozen=True)
class Published:
    unet: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    counts: dict[str, int]
    widths: set[int]
    capacity: int  # at rank 20
    token_layers: int  # with a place for the pooled vector where there is one


MODELS = {
    "sd1": Published(
        SD1, (CLIP_L,), {"unet": 128, "text_encoder": 48}, {320, 640, 768, 1280}, 16, 16
    ),
    "sd2": Published(
        SD2, (OPEN_CLIP_H,), {"unet": 128, "text_encoder": 92}, {320, 640, 1024, 1280}, 16, 16
    ),
    "sdxl": Published(
        SDXL,
        (CLIP_L, OPEN_CLIP_G),
        {"unet": 560, "text_encoder": 48, "text_encoder_2": 128},
        {640, 768, 1280, 2048},
        32,
        71,
    ),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> tuple[str, dict[str, nn.Module]]:
    """One model's networks without weights, by component."""
    said = MODELS[request.param]
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    with torch.device("meta"):
        made: dict[str, nn.Module] = {"unet": UNet2DConditionModel(**said.unet)}
        for kind, text, name in zip(
            kinds, said.texts, ("text_encoder", "text_encoder_2"), strict=False
        ):
            made[name] = kind(CLIPTextConfig(**text))
    return request.param, made


def _layers(made: dict[str, nn.Module]) -> list[Layer]:
    found: list[Layer] = []
    for component, module in made.items():
        shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        found += attention_layers(component, shapes)
    return sorted(found)


def test_counts_widths_and_capacity_are_the_published_models(
    model: tuple[str, dict[str, nn.Module]],
) -> None:
    """formats.md 3.1: 128 + 48, 128 + 92, 560 + 48 + 128; 16 and 32 concepts at rank 20."""
    name, made = model
    said = MODELS[name]

    layers = _layers(made)

    assert Counter(layer.path.partition(".")[0] for layer in layers) == said.counts
    assert {layer.width for layer in layers} == said.widths
    assert capacity(layers, dict.fromkeys(said.widths, 20)) == said.capacity
    text = said.unet["cross_attention_dim"]
    assert sum(part["hidden_size"] for part in said.texts) == text
    keys = [layer for layer in layers if layer.path.endswith(("attn2.to_k", "attn2.to_v"))]
    assert {layer.width for layer in keys} == {text}
    assert len(token_layers(made["unet"].state_dict())) == said.token_layers


def test_names_and_shapes_are_those_of_the_formats_page(
    model: tuple[str, dict[str, nn.Module]],
) -> None:
    """The hand-written table, whose check sums stand in formats.md 3.2, equals the libraries'."""
    name, made = model
    table = {"sd1": sd1_layers, "sdxl": sdxl_layers}

    if name in table:
        assert tuple(_layers(made)) == table[name]()
    else:  # Stable Diffusion 2 has the UNet of 1 with wider text
        first = {x.path for x in sd1_layers() if x.path.startswith("unet.")}
        assert {x.path for x in _layers(made) if x.path.startswith("unet.")} == first
