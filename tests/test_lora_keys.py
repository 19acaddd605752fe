"""Every key of a kohya file is known to the programs that read it, under every preset.

Their rules are re-derived here from what those programs publish, and not imported: which modules
kohya's trainer adapts and how it names them, which names ComfyUI and A1111 map. The modules are the
libraries', built from the published configs on the "meta" device.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from orthofed.core.ldm import ldm_path
from orthofed.core.lorafile import kohya_key
from orthofed.core.published import PublishedModel, published_layers
from orthofed.core.targets import TARGETS, Targets

from .single_file import _unet
from .test_published_shapes import CLIP_L, OPEN_CLIP_G, SD1, SDXL

FAMILIES: dict[PublishedModel, str] = {"sd15": "sd1", "sdxl": "sdxl"}
LINEAR = {"Transformer2DModel"}
CONVOLVED = {"ResnetBlock2D", "Downsample2D", "Upsample2D"}
TEXT = {"CLIPAttention", "CLIPSdpaAttention", "CLIPMLP"}
Built = tuple[PublishedModel, nn.Module, Mapping[str, nn.Module]]


def _keys(model: PublishedModel, targets: Targets) -> set[str]:
    keys = [kohya_key(x.path, FAMILIES[model]) for x in published_layers(model, targets)]
    assert len(set(keys)) == len(keys)
    return set(keys)


def _modules(root: nn.Module, holders: set[str]) -> Iterator[tuple[str, nn.Module]]:
    """Give name and module of every linear layer and convolution inside classes of these names."""
    for name, holder in root.named_modules():
        if type(holder).__name__ in holders:
            for inside, module in holder.named_modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    yield f"{name}.{inside}", module


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Built:
    """One model's name, UNet and text encoders by kohya's prefix."""
    with torch.device("meta"):
        if request.param == "sd15":
            text = {"lora_te": CLIPTextModel(CLIPTextConfig(**CLIP_L))}
            return request.param, UNet2DConditionModel(**SD1), text
        pair = {
            "lora_te1": CLIPTextModel(CLIPTextConfig(**CLIP_L)),
            "lora_te2": CLIPTextModelWithProjection(CLIPTextConfig(**OPEN_CLIP_G)),
        }
        return request.param, UNet2DConditionModel(**SDXL), pair


def _kohya(model: Built, holders: set[str]) -> set[str]:
    """Return the names that kohya's trainer gives to what it adapts.

    Its SDXL network has the original names; transformers wrote `text_model.` when it was written.
    """
    name, unet, texts = model
    paths = [path for path, _ in _modules(unet, holders)]
    named = [_ldm(path) if name == "sdxl" else path for path in paths]
    found = {f"lora_unet_{path}".replace(".", "_") for path in named}
    for prefix, text in texts.items():
        for path, _ in _modules(text, TEXT):
            flat = path.removeprefix("text_model.")
            found.add(f"{prefix}_text_model_{flat}".replace(".", "_"))
    return found


def _ldm(path: str) -> str:
    """Return the original name of one XL layer, as a whole checkpoint spells it."""
    return _unet(f"{path}.weight", 2, {0, 1}).removesuffix(".weight")


def test_all_is_what_kohya_adapts_with_its_convolutions_switched_on(
    model: Built,
) -> None:
    """`conv_dim` set: 278 + 72 and 788 + 72 + 192 modules, one name each, none over."""
    assert _keys(model[0], "all") == _kohya(model, LINEAR | CONVOLVED)


@pytest.mark.parametrize("targets", TARGETS)
def test_kohya_finds_every_key_of_every_preset(model: Built, targets: Targets) -> None:
    """A smaller preset is a part of it: its merge script skips no key."""
    assert _keys(model[0], targets) <= _kohya(model, LINEAR | CONVOLVED)


def _comfy(unet: nn.Module, texts: Iterable[str], depths: dict[str, int]) -> set[str]:
    """Return the names that ComfyUI maps: both spellings of the UNet, and CLIP's layers."""
    parts = r"conv1|conv2|time_emb_proj|conv_shortcut"
    block = r"transformer_blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2))"
    known = re.compile(
        rf".+\.(resnets\.\d\.({parts})|attentions\.\d\.(proj_in|proj_out|{block})"
        r"|downsamplers\.0\.conv|upsamplers\.0\.conv)"
    )
    found = set[str]()
    for path, _ in unet.named_modules():
        if known.fullmatch(path):
            found |= {f"lora_unet_{p}".replace(".", "_") for p in (path, _ldm(path))}
    for prefix in texts:
        for i in range(depths[prefix]):
            attention = [f"self_attn_{x}_proj" for x in ("q", "k", "v", "out")]
            for part in (*attention, "mlp_fc1", "mlp_fc2"):
                found.add(f"{prefix}_text_model_encoder_layers_{i}_{part}")
    return found


@pytest.mark.parametrize("targets", TARGETS)
def test_comfyui_maps_every_key(model: Built, targets: Targets) -> None:
    """formats.md 13.4, for all presets: unmatched 0."""
    name, unet, texts = model
    depths = {"lora_te": 12, "lora_te1": 12, "lora_te2": 32}

    assert _keys(name, targets) <= _comfy(unet, texts, depths)


_SUFFIXES = {
    "conv1": "in_layers_2",
    "conv2": "out_layers_3",
    "time_emb_proj": "emb_layers_1",
    "conv_shortcut": "skip_connection",
}


def _compvis(key: str) -> str:
    """Return A1111's name of an SD 1 key, by its published rules; the key itself if none fits."""
    if m := re.fullmatch(r"lora_unet_(down|up)_blocks_(\d)_(attentions|resnets)_(\d)_(.+)", key):
        side, block, kind, place, rest = m.groups()
        rest = _SUFFIXES.get(rest, rest) if kind == "resnets" else rest
        number = 3 * int(block) + int(place) + (side == "down")
        where = "input" if side == "down" else "output"
        return f"diffusion_model_{where}_blocks_{number}_{int(kind == 'attentions')}_{rest}"
    if m := re.fullmatch(r"lora_unet_mid_block_(attentions|resnets)_(\d)_(.+)", key):
        kind, place, rest = m.groups()
        number = 1 if kind == "attentions" else 2 * int(place)
        return f"diffusion_model_middle_block_{number}_{_SUFFIXES.get(rest, rest)}"
    if m := re.fullmatch(r"lora_unet_down_blocks_(\d)_downsamplers_0_conv", key):
        return f"diffusion_model_input_blocks_{3 + 3 * int(m[1])}_0_op"
    if m := re.fullmatch(r"lora_unet_up_blocks_(\d)_upsamplers_0_conv", key):
        block = int(m[1])
        return f"diffusion_model_output_blocks_{2 + 3 * block}_{2 if block else 1}_conv"
    if m := re.fullmatch(r"lora_te_text_model_encoder_layers_(\d+)_(.+)", key):
        return f"transformer_text_model_encoder_layers_{m[1]}_{m[2]}"
    return key


def test_a1111_finds_every_layer_of_stable_diffusion_1() -> None:
    """formats.md 13.5, convolutions too: each key becomes the name of a layer of the original.

    XL's keys are the original names already: it swaps the prefix.
    """
    parts = (*(f"self_attn_{x}_proj" for x in ("q", "k", "v", "out")), "mlp_fc1", "mlp_fc2")
    known = {
        f"transformer_text_model_encoder_layers_{i}_{part}" for i in range(12) for part in parts
    }
    for layer in published_layers("sd15", "all"):
        component, _, inside = layer.path.partition(".")
        if component == "unet":
            name = _unet(f"{inside}.weight", 2, {1, 2, 3}).removesuffix(".weight")
            known.add("diffusion_model_" + name.replace(".", "_"))

    assert {_compvis(key) for key in _keys("sd15", "all")} == known


def test_xl_names_are_those_of_a_whole_checkpoint() -> None:
    """core/ldm.py against the writer of single files, which diffusers reads back bit for bit."""
    layers = [x.path for x in published_layers("sdxl", "all") if x.path.startswith("unet.")]

    ours = {path: ldm_path(path) for path in (layer.removeprefix("unet.") for layer in layers)}

    assert len(ours) == 788
    assert ours == {path: _ldm(path) for path in ours}
