"""What the tensors of somebody's LoRA file are called: to which layer, and which side of it.

Spellings taken: kohya's (``lora_unet_``, ``lora_te``), diffusers' (the layer's path) and PEFT's
(``base_model.model.`` and the path without its component), a text encoder's with or without
``text_model.`` (formats.md 3.2, 3.3). In PEFT's names `lora_A` is down, `lora_B` is up. Law: names
are looked up among those that the spec makes, never taken apart into paths. Cost: linear.
"""

import contextlib
from typing import Literal

from .errors import SpecError
from .lorafile import kohya_key
from .spec import FederationSpec

Side = Literal["up", "down", "alpha"]
_ENDS: dict[str, Side] = {
    ".lora_up.weight": "up",
    ".lora_down.weight": "down",
    ".alpha": "alpha",
    ".lora_B.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_A.default.weight": "down",
}
_KOHYA_TEXT = {"text_encoder": ("lora_te_", "lora_te1_"), "text_encoder_2": ("lora_te2_",)}
_TEXT_MODEL = "text_model."


def split_name(name: str) -> tuple[str, Side] | None:
    """Return a tensor's module and side; None for a tensor that is no part of a LoRA.

    >>> split_name("lora_unet_mid_block.lora_up.weight"), split_name("emb_params")
    (('lora_unet_mid_block', 'up'), None)
    """
    for end, side in _ENDS.items():
        if name.endswith(end):
            return name[: -len(end)], side
    return None


def module_names(spec: FederationSpec, *, component: str | None = None) -> dict[str, str]:
    """Return the layer's path for each name that a file may give its module.

    ``component``: whose layers PEFT's names mean, which do not say it; None: the first that fits.
    """
    found: dict[str, str] = {}
    order = {"unet": 0, "text_encoder": 1}
    for layer in sorted(spec.layers, key=lambda each: order.get(each.path.partition(".")[0], 2)):
        part, _, module = layer.path.partition(".")
        short = module.removeprefix(_TEXT_MODEL)
        names = [layer.path, f"{part}.{short}"]
        if component in (None, part):
            names += [f"base_model.model.{module}", f"base_model.model.{short}"]
        names += _kohya(layer.path, spec.base.family)
        for name in names:
            found.setdefault(name, layer.path)
    return found


def _kohya(path: str, family: str) -> list[str]:
    component, _, module = path.partition(".")
    flat = module.replace(".", "_")
    names = [f"{prefix}{flat}" for prefix in _KOHYA_TEXT.get(component, ())]
    if component == "unet":
        names.append(f"lora_unet_{flat}")
    with contextlib.suppress(SpecError):  # a layer without an original spelling has only its own
        names.append(kohya_key(path, family))
    return names
