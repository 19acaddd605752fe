"""Which names of a LoRA the web UIs and kohya's scripts know, derived anew from what they publish.

Each rule starts from the layers that the program's own model has, laid out here as that model
builds them from its config, and says which keys of a file find a layer. Nothing of core/ is asked,
so a name that core/ spells wrongly stays unmatched. Sources read: ComfyUI comfy/lora.py and
comfy/utils.py, AUTOMATIC1111 extensions-builtin/Lora/networks.py, Forge's networks.py, kohya
sd-scripts' lora.py and merge scripts; formats.md 13, points 4 to 6.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

SUFFIXES = (".lora_up.weight", ".lora_down.weight", ".alpha")
PROJECTIONS = ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn1_to_out_0")
CROSS = tuple(name.replace("attn1", "attn2") for name in PROJECTIONS)
TEXT = tuple(f"self_attn_{name}_proj" for name in ("q", "k", "v", "out"))
FORGE_MOST = 12
"""Unmatched tensors above which Forge drops the whole file."""


@dataclass(frozen=True)
class Model:
    """``depths``: transformer blocks by level, 0 for none; ``texts``: layers by encoder."""

    depths: tuple[int, ...]
    texts: tuple[int, ...]
    fused: tuple[bool, ...]
    """Whether q, k and v of that encoder are one matrix in the original layout (OpenCLIP)."""


MODELS = {
    "sd15": Model((1, 1, 1, 0), (12,), (False,)),
    "sd21": Model((1, 1, 1, 0), (23,), (True,)),
    "sdxl": Model((0, 2, 10), (12, 32), (False, True)),
}
EACH = 2
"""Residual blocks a level on the way down; one more on the way up."""


def attentions(model: Model) -> Iterator[tuple[str, str, int]]:
    """Give place in diffusers, place in the original layout and depth, walking the model."""
    number, last = 0, len(model.depths) - 1
    for level, depth in enumerate(model.depths):
        for i in range(EACH):
            number += 1
            if depth:
                yield f"down_blocks_{level}_attentions_{i}", f"input_blocks_{number}_1", depth
        number += level < last  # the downsampler
    yield "mid_block_attentions_0", "middle_block_1", max(model.depths)
    number = 0
    for level, depth in enumerate(reversed(model.depths)):
        for i in range(EACH + 1):
            if depth:
                yield f"up_blocks_{level}_attentions_{i}", f"output_blocks_{number}_1", depth
            number += 1


def unet(model: Model, *, original: bool) -> set[str]:
    """Return the attention layers of the UNet, words joined by ``_``."""
    return {
        f"{ldm if original else place}_transformer_blocks_{d}_{name}"
        for place, ldm, depth in attentions(model)
        for d in range(depth)
        for name in (*PROJECTIONS, *CROSS)
    }


def texts(prefix: str, layers: int) -> set[str]:
    """Return one text encoder's layers under ``prefix``, as transformers spells them."""
    return {f"{prefix}_text_model_encoder_layers_{i}_{x}" for i in range(layers) for x in TEXT}


def comfyui(model: Model) -> Callable[[str], bool]:
    """Both spellings of the UNet; ``lora_te_`` and ``lora_te1_`` the first encoder."""
    known = {f"lora_unet_{name}" for each in (True, False) for name in unet(model, original=each)}
    for prefix in ("lora_te", "lora_te1"):
        known |= texts(prefix, 32)  # it takes any number of layers up to 32
    if len(model.texts) > 1:
        known |= texts("lora_te2", 32)
    return known.__contains__


def kohya(model: Model) -> Callable[[str], bool]:
    """One spelling a family: SDXL's UNet has the original names, the older ones diffusers'."""
    is_sdxl = len(model.texts) > 1
    known = {f"lora_unet_{name}" for name in unet(model, original=is_sdxl)}
    for k, layers in enumerate(model.texts, start=1):
        known |= texts(f"lora_te{k if is_sdxl else ''}", layers)
    return known.__contains__


def a1111(model: Model) -> Callable[[str], bool]:
    """Look among the original modules; a fused attention has the name before ``_q_proj``.

    It changes such an attention only if q, k, v and out are all in the file.
    """
    modules = _modules(model)
    compvis = {
        f"lora_unet_{there}": f"diffusion_model_{ldm}" for there, ldm, _ in attentions(model)
    }

    def name_of(key: str) -> str:
        if match := re.fullmatch(r"(lora_unet_(?:\w+_attentions_\d+))_(transformer_.+)", key):
            return f"{compvis.get(match[1], '?')}_{match[2]}"
        if match := re.fullmatch(r"lora_te(2?)_text_model_encoder_layers_(\d+)_(.+)", key):
            if match[1] or model.fused[0]:
                place = "1_" if match[1] else ""
                return f"{place}model_transformer_resblocks_{match[2]}_{match[3][len('self_') :]}"
            return key.replace("lora_te_", "transformer_", 1)
        if key.startswith("lora_te1_text_model"):
            return key.replace("lora_te1_text_model", "0_transformer_text_model", 1)
        return key.replace("lora_unet", "diffusion_model", 1)

    def knows(key: str) -> bool:
        name = name_of(key)
        return name in modules or re.sub(r"_[qkv]_proj$", "", name) in modules

    return knows


def _modules(model: Model) -> set[str]:
    """Return the adapted modules as the original code builds them."""
    modules = {f"diffusion_model_{name}" for name in unet(model, original=True)}
    for k, (layers, fused) in enumerate(zip(model.texts, model.fused, strict=True)):
        place = f"{k}_" if len(model.texts) > 1 else ""
        for i in range(layers):
            if fused:
                block = f"{place}model_transformer_resblocks_{i}_attn"
                modules |= {block, f"{block}_out_proj"}
            else:
                block = f"{place}transformer_text_model_encoder_layers_{i}"
                modules |= {f"{block}_{name}" for name in TEXT}
    return modules


RULES = {"comfyui": comfyui, "forge": comfyui, "a1111": a1111, "kohya": kohya}


def unmatched(program: str, model: Model, keys: Iterable[str]) -> list[str]:
    """Return the keys of a file that find no layer; A1111 takes a key's layer up to its first dot.

    A1111 also finds its bundled vectors, ``bundle_emb.<name>.<rest>``.
    """
    knows, left = RULES[program](model), []
    for key in keys:
        name, dot, rest = key.partition(".")
        if program == "a1111" and name == "bundle_emb" and len(rest.split(".", 1)) > 1:
            continue
        if f"{dot}{rest}" not in SUFFIXES or not knows(name):
            left.append(key)
    return left
