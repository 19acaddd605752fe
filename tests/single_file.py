"""Writes a Stable Diffusion 1, 2 or XL pipeline folder as one file, under the original names.

The way back is diffusers' own (`from_single_file`); this half is written from the published layout
of the checkpoints: `model.diffusion_model`, `first_stage_model`, and for text
`cond_stage_model.transformer` (1), `cond_stage_model.model` (2), `conditioner.embedders` (XL).
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from torch import Tensor

_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_CLIP = {"sd1": {"text_encoder": "cond_stage_model.transformer"}}
_CLIP["sdxl"] = {"text_encoder": "conditioner.embedders.0.transformer"}
_OPEN_CLIP = {"sd2": {"text_encoder": "cond_stage_model.model"}}
_OPEN_CLIP["sdxl"] = {"text_encoder_2": "conditioner.embedders.1.model"}
_OPEN = (
    ("text_model.embeddings.token_embedding", "token_embedding"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm", "ln_final"),
    ("text_model.encoder.layers", "transformer.resblocks"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn.out_proj", "attn.out_proj"),
)


def write_single_file(
    folder: Path, file: Path, *, each: int, blocks: int, family: str = "sd1"
) -> Path:
    """Write the pipeline in ``folder``; ``each`` = layers_per_block, ``blocks`` of the VAE."""
    tensors: dict[str, Tensor] = {}
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    attended = {int(m[1]) for n in unet if (m := re.match(r"up_blocks\.(\d+)\.attentions", n))}
    for name, value in unet.items():
        tensors[f"model.diffusion_model.{_unet(name, each, attended)}"] = value
    for name, value in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        key, matrix = _vae(name, blocks), ".attentions." in name and value.ndim == 2
        tensors[f"first_stage_model.{key}"] = value[:, :, None, None].clone() if matrix else value
    for part, prefix in _CLIP.get(family, {}).items():
        for name, value in load_file(folder / part / "model.safetensors").items():
            tensors[f"{prefix}.{name}"] = value
    for part, prefix in _OPEN_CLIP.get(family, {}).items():
        for name, value in _opened(load_file(folder / part / "model.safetensors")).items():
            tensors[f"{prefix}.{name}"] = value
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    return file


def _opened(clip: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return a text encoder as OpenCLIP has it: q, k and v in one, the projection turned."""
    found: dict[str, Tensor] = {}
    for name, value in clip.items():
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif "self_attn.q_proj" in name:
            rows = [clip[name.replace("q_proj", f"{x}_proj")] for x in "qkv"]
            key = name.replace("text_model.encoder.layers", "transformer.resblocks")
            found[key.replace("self_attn.q_proj.", "attn.in_proj_")] = torch.cat(rows)
        elif not re.search(r"self_attn\.[kv]_proj", name):
            key = name
            for ours, theirs in _OPEN:
                key = key.replace(ours, theirs)
            found[key] = value
    return found


def _unet(name: str, each: int, attended: set[int]) -> str:
    for ours, theirs in _UNET.items():
        if name.startswith(f"{ours}."):
            return theirs + name[len(ours) :]
    place, rest = _unet_place(name, each, attended)
    if ".resnets." in name:
        part, _, leaf = rest.rpartition(".")
        rest = f"{_RESNET[part]}.{leaf}"
    return f"{place}.{rest}"


def _unet_place(name: str, each: int, attended: set[int]) -> tuple[str, str]:
    if (m := re.match(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", name)) is not None:
        at = (each + 1) * int(m[1]) + int(m[3]) + 1
        return f"input_blocks.{at}.{int(m[2] == 'attentions')}", m[4]
    if (m := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.+)", name)) is not None:
        return f"input_blocks.{(each + 1) * (int(m[1]) + 1)}.0.op", m[2]
    if (m := re.match(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", name)) is not None:
        at = (each + 1) * int(m[1]) + int(m[3])
        return f"output_blocks.{at}.{int(m[2] == 'attentions')}", m[4]
    if (m := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.+)", name)) is not None:
        at = (each + 1) * int(m[1]) + each
        return f"output_blocks.{at}.{2 if int(m[1]) in attended else 1}.conv", m[2]
    m = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", name)
    if m is None:
        raise AssertionError(name)
    return f"middle_block.{1 if m[1] == 'attentions' else 2 * int(m[2])}", m[3]


def _vae(name: str, blocks: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    up = re.search(r"up_blocks\.(\d+)\.", name)
    if up is not None:
        at = blocks - 1 - int(up[1])
        name = re.sub(r"up_blocks\.\d+\.resnets\.(\d+)", rf"up.{at}.block.\1", name)
        name = re.sub(r"up_blocks\.\d+\.upsamplers\.0", f"up.{at}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0" in name:
        head, _, part = name.partition("mid_block.attentions.0.")
        stem, _, leaf = part.rpartition(".")
        return f"{head}mid.attn_1.{_VAE_ATTENTION[stem]}.{leaf}"
    return name
