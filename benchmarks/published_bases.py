# pyright: basic, reportPrivateImportUsage=false
# diffusers and transformers publish partial types.
"""Shapes of published base models, and base folders of their full size with random weights.

Names and shapes come from the libraries' own modules on the "meta" device, so no weights are
needed; ``write_base`` fills them with random fp16 numbers. On disk a base looks as published ones
do: a diffusers pipeline, safetensors, ``text_model.`` keys. ``tiny`` is for tests. Used by merge.py
and basis.py beside it.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from orthofed.core.layer import Layer
from orthofed.core.targets import target_layers
from orthofed.core.tensorfile import header_bytes

Shapes = dict[str, tuple[int, ...]]
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
_POOL_NUMBERS = 1 << 22


@dataclass(frozen=True, slots=True)
class Published:
    """The arguments of one model's UNet, text encoders and autoencoder."""

    unet: dict[str, Any]
    texts: tuple[dict[str, Any], ...]
    vae: dict[str, Any]


PUBLISHED = {
    "tiny": Published(
        {
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 48,
            "attention_head_dim": 4,
        },
        ({"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 600},),
        {"block_out_channels": (8,), "norm_num_groups": 4},
    ),
    "sd15": Published({"cross_attention_dim": 768, "attention_head_dim": 8}, (_CLIP_L,), _VAE),
    "sdxl": Published(
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        (_CLIP_L, _CLIP_G),
        _VAE,
    ),
}
_TEXT_KINDS = (CLIPTextModel, CLIPTextModelWithProjection)


def attention(name: str) -> list[Layer]:
    """Return every attention layer of UNet and text encoders, sorted by path."""
    found: list[Layer] = []
    for component, module in networks(name).items():
        if component != "vae":
            found += target_layers(component, _shapes(component, module))
    return sorted(found)


def networks(name: str, *, vae: bool = False) -> dict[str, nn.Module]:
    """Return the networks without their weights, by component."""
    said = PUBLISHED[name]
    with torch.device("meta"):
        made: dict[str, nn.Module] = {"unet": UNet2DConditionModel(**said.unet)}
        for kind, text, number in zip(_TEXT_KINDS, said.texts, ("", "_2"), strict=False):
            made[f"text_encoder{number}"] = kind(text_config(text))
        if vae:
            made["vae"] = AutoencoderKL(**said.vae)
    return made


def text_config(text: dict[str, Any]) -> CLIPTextConfig:
    """Return one text encoder's config; heads are as many as in the published models."""
    width = text["hidden_size"]
    heads = width // 64 or 1
    return CLIPTextConfig(**text, num_attention_heads=heads, projection_dim=width)


def write_base(folder: Path, name: str) -> None:
    """Write the pipeline folder, fp16."""
    pool = np.random.default_rng(0).normal(scale=0.03, size=_POOL_NUMBERS).astype("<f2").tobytes()
    components = networks(name, vae=True)
    index = {component: ["library", "Class"] for component in components}
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(index))
    for component, module in components.items():
        text = component.startswith("text")
        (folder / component).mkdir()
        config = {"vocab_size": _said(module).vocab_size, "eos_token_id": 2} if text else {}
        (folder / component / "config.json").write_text(json.dumps(config))
        stem = "model" if text else "diffusion_pytorch_model"
        path = folder / component / f"{stem}.safetensors"
        _write(path, _shapes(component, module), pool)


def _said(module: nn.Module) -> Any:
    return module.config


def _write(path: Path, shapes: Shapes, pool: bytes) -> None:
    entries = [(name, "F16", shape) for name, shape in shapes.items()]
    at = 0
    with path.open("wb") as file:
        file.write(header_bytes(entries, {"format": "pt"}))
        for name in sorted(shapes):
            left = 2 * math.prod(shapes[name])
            while left:
                piece = pool[at : at + left]
                file.write(piece)
                left -= len(piece)
                at = (at + len(piece)) % len(pool)


def _shapes(component: str, module: nn.Module) -> Shapes:
    """Return the names and shapes of a component's file, text encoders as published ones."""
    return {
        on_disk(component, name): tuple(value.shape) for name, value in module.state_dict().items()
    }


def on_disk(component: str, name: str) -> str:
    """Return the key under which published files have a tensor of the libraries' modules."""
    bare = name.removeprefix("text_model.")
    if not component.startswith("text") or bare.startswith("text_projection"):
        return name
    return f"text_model.{bare}"
