"""Which names the web UIs and kohya's scripts know, derived anew from what they publish.

Each rule starts from the layers that the program's own model has, laid out here as that model
builds them from its config, and says which keys of a file find a layer. Nothing of core/ is asked,
so a name that core/ spells wrongly stays unmatched. The last part is of whole checkpoints: how each
program tells a family. No program was run. Where the rules stand: ComfyUI comfy/lora.py, utils.py,
model_detection.py, AUTOMATIC1111 extensions-builtin/Lora/networks.py, sd_models_config.py, Forge's
networks.py, kohya sd-scripts' lora.py and merge scripts; formats.md 13, points 4 to 6. Of
model_detection.py, sd_models_config.py and the merge scripts only parts were read.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        known |= texts(prefix, model.texts[0])  # it counts to 32 and takes what the model has
    if len(model.texts) > 1:
        known |= texts("lora_te2", model.texts[1])
    for k, layers in enumerate(model.texts):  # and diffusers' names, of text encoders alone
        place = "text_encoder" if k == 0 else f"text_encoder_{k + 1}"
        for i in range(layers):
            inside = f"{place}.text_model.encoder.layers.{i}.self_attn"
            known |= {f"{inside}.{name.removeprefix('self_attn_')}" for name in TEXT}
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
            there = key.replace("lora_te1_text_model", "0_transformer_text_model", 1)
            return there if there in modules else there[2:]  # "some SD1 Loras", it says
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


def unmatched(program: str, model: Model, keys: Sequence[str]) -> list[str]:
    """Return the keys of a file that find no layer; A1111 takes a key's layer up to its first dot.

    A1111 also finds its bundled vectors, ``bundle_emb.<name>.<rest>``.
    """
    knows, left = RULES[program](model), []
    for key in keys:
        name, dot, rest = key.partition(".")
        if program == "a1111" and name == "bundle_emb" and len(rest.split(".", 1)) > 1:
            continue
        end = next((end for end in SUFFIXES if key.endswith(end)), "")
        name, rest = (name, f"{dot}{rest}") if program == "a1111" else (key[: -len(end)], end)
        if rest not in SUFFIXES or not end or not knows(name):
            left.append(key)
    if program == "a1111":
        left += [key for key in _torn(model, keys) if key not in left]
    return left


def _torn(model: Model, keys: Iterable[str]) -> Iterator[str]:
    """Give the keys of fused attentions of which q, k, v and out are not all there."""
    prefix = "lora_te2_" if len(model.texts) > 1 else "lora_te_"
    if not any(model.fused):
        return
    found: dict[str, set[str]] = {}
    attention = re.compile(rf"({prefix}text_model_encoder_layers_\d+_self_attn)_(q|k|v|out)_proj")
    for key in keys:
        if match := attention.fullmatch(key.partition(".")[0]):
            found.setdefault(match[1], set()).add(match[2])
    for key in keys:
        match = attention.fullmatch(key.partition(".")[0])
        if match and found[match[1]] != {"q", "k", "v", "out"}:
            yield key


Shapes = Mapping[str, tuple[int, ...]]
"""The tensors of a whole checkpoint in one file, name to shape."""
_UNET = "model.diffusion_model."
_FAMILIES = {  # ComfyUI's supported_models: width of the first level, text width, linear, adm
    (320, 768, False, None): "sd1",
    (320, 1024, True, None): "sd2",
    (320, 2048, True, 2816): "sdxl",
}


def comfyui_family(file: Shapes) -> str:
    """Read the UNet's shape off its tensors, then look for that family's text encoders."""
    first = file.get(f"{_UNET}input_blocks.0.0.weight")
    texts = [shape for name, shape in file.items() if name.endswith(".attn2.to_k.weight")]
    linear = [len(s) == 2 for name, s in file.items() if re.search(r"\.1\.proj_in\.weight$", name)]
    if first is None or not texts or not linear:
        return "none"
    adm = file.get(f"{_UNET}label_emb.0.0.weight")
    said = (first[0], texts[0][1], linear[0], adm and adm[1])
    family = _FAMILIES.get(said, "none")
    wanted = {
        "sd1": ("cond_stage_model.transformer.text_model.encoder.layers.11.layer_norm1.weight",),
        "sd2": ("cond_stage_model.model.transformer.resblocks.22.ln_1.weight",),
        "sdxl": (
            "conditioner.embedders.0.transformer.text_model.encoder.layers.11.layer_norm1.weight",
            "conditioner.embedders.1.model.transformer.resblocks.31.ln_1.weight",
        ),
    }
    there = all(
        name in file
        for name in (*wanted.get(family, ()), "first_stage_model.decoder.conv_in.weight")
    )
    return family if there else "none"


def a1111_family(file: Shapes) -> str:
    """Ask for one tensor a family, in this order; what has none of them is taken for SD 1."""
    first = file.get(f"{_UNET}input_blocks.0.0.weight")
    if first is None or first[1] != 4:  # 9: inpainting, 8: pix2pix
        return "none"
    if "conditioner.embedders.1.model.ln_final.weight" in file:
        return "sdxl"
    if "conditioner.embedders.0.model.ln_final.weight" in file:
        return "refiner"
    fused = file.get("cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight")
    if fused is not None and fused[1] == 1024:
        return "sd2"
    return (
        "sd1"
        if "cond_stage_model.transformer.text_model.final_layer_norm.weight" in file
        else "none"
    )


def kohya_family(file: Shapes) -> str:
    """Follow the scripts' readers: the person says which of them, and it asks for these."""
    if not {f"{_UNET}time_embed.0.weight", "first_stage_model.encoder.conv_in.weight"} <= set(file):
        return "none"
    if "conditioner.embedders.1.model.ln_final.weight" in file:
        return "sdxl" if "conditioner.embedders.1.model.text_projection" in file else "none"
    if "cond_stage_model.model.ln_final.weight" in file:
        return "sd2"
    clip = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    return "sd1" if clip in file else "none"


FULL_RULES = {
    "comfyui": comfyui_family,
    "forge": comfyui_family,
    "a1111": a1111_family,
    "kohya": kohya_family,
}
"""How each program tells what a whole checkpoint is."""
