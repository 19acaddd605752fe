"""Tiny random models with the real structure of Stable Diffusion 2.1 and XL, as pipeline folders.

``tiny_sd2(folder)``: velocity, OpenCLIP-like text (gelu, one layer fewer than trained), linear
projections; ``tiny_sd2_epsilon``: the same with noise. ``tiny_sdxl(folder)``: two text encoders of
different width and length of vocabulary's padding, depths 1 and 2, pooled vector, six sizes,
`eos_token_id` 2 as published. On disk they look as the published ones do: ``text_model.`` keys in
both encoders.
"""
# pyright: reportPrivateImportUsage=false, reportArgumentType=false
# diffusers publishes partial types.

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from .tiny_base import LENGTH, _write_tokenizer

SEED = 20_261_124


def tiny_sd2_epsilon(folder: Path) -> Path:
    """Write a small Stable Diffusion 2.1 base: the same, but it answers with the noise."""
    return tiny_sd2(folder, prediction="epsilon")


def tiny_sd2(folder: Path, *, prediction: str = "v_prediction") -> Path:
    """Write a small Stable Diffusion 2.1: one encoder, velocity."""
    torch.manual_seed(SEED)
    vocabulary = _write_tokenizer(folder / "tokenizer")
    # the published one has 23 of 24 layers, 1024 wide; its heads are as wide as here: 64 there
    _text(folder / "text_encoder", CLIPTextModel, vocabulary, width=64, layers=3, act="gelu")
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(24, 24, 48, 48),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=64,
        attention_head_dim=(1, 1, 2, 2),
        use_linear_projection=True,
        upcast_attention=True,
    ).save_pretrained(folder / "unet")
    _vae(folder)
    DDIMScheduler(
        **_BETAS,
        prediction_type=prediction,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    _index(
        folder,
        "StableDiffusionPipeline",
        scheduler="DDIMScheduler",
        text_encoder="CLIPTextModel",
        tokenizer="CLIPTokenizer",
        extra={"safety_checker": [None, None], "feature_extractor": [None, None]},
    )
    return folder


def tiny_sdxl(folder: Path) -> Path:
    """Write a small Stable Diffusion XL: two encoders, pooled vector, sizes."""
    torch.manual_seed(SEED)
    vocabulary = _write_tokenizer(folder / "tokenizer")
    _write_tokenizer(folder / "tokenizer_2")
    _padded_with_a_byte(folder / "tokenizer_2")
    _text(folder / "text_encoder", CLIPTextModel, vocabulary, width=48, layers=3, act="quick_gelu")
    second = folder / "text_encoder_2"
    _text(second, CLIPTextModelWithProjection, vocabulary, width=80, layers=3, act="gelu", pool=40)
    UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 24, 48),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 2),
        norm_num_groups=8,
        cross_attention_dim=48 + 80,
        attention_head_dim=(1, 1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=40 + 6 * 8,
    ).save_pretrained(folder / "unet")
    _vae(folder)
    EulerDiscreteScheduler(**_BETAS).save_pretrained(folder / "scheduler")
    _index(
        folder,
        "StableDiffusionXLPipeline",
        scheduler="EulerDiscreteScheduler",
        text_encoder="CLIPTextModel",
        text_encoder_2="CLIPTextModelWithProjection",
        tokenizer="CLIPTokenizer",
        tokenizer_2="CLIPTokenizer",
        extra={"force_zeros_for_empty_prompt": True},
    )
    return folder


_BETAS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


def _text(
    folder: Path,
    kind: Any,
    vocabulary: dict[str, int],
    *,
    width: int,
    layers: int,
    act: str,
    pool: int = 48,
) -> None:
    model = kind(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            hidden_act=act,
            projection_dim=pool,
            bos_token_id=0,  # with eos_token_id 2, as OpenAI's and every later config says
            eos_token_id=2,
            pad_token_id=1,
        )
    )
    model.save_pretrained(folder)
    weights = folder / "model.safetensors"
    flat = load_file(weights)
    bare = {name.removeprefix("text_model."): v for name, v in flat.items()}
    named = {n if n.startswith("text_proj") else f"text_model.{n}": v for n, v in bare.items()}
    save_file(named, weights, metadata={"format": "pt"})


def _vae(folder: Path) -> None:
    AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
    ).save_pretrained(folder / "vae")


def _padded_with_a_byte(folder: Path) -> None:
    """Pad with "!", as SDXL's second tokenizer does and the first does not."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        said = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**said, "pad_token": "!"}))


def _index(folder: Path, kind: str, *, extra: dict[str, object], **classes: str) -> None:
    named = {**classes, "unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    ours = ("unet", "vae", "scheduler")
    index = {
        "_class_name": kind,
        "_diffusers_version": "0.42.1",
        **{n: ["diffusers" if n in ours else "transformers", c] for n, c in named.items()},
        **extra,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
