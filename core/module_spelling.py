"""Every name that an adapter file may give a layer of Stable Diffusion 1, 2 and XL.

    kohya      lora_unet_<path, joined by _>          te, te1, te2   lora_te_<path>, lora_te1_, ...
    original   lora_unet_<original path, joined by _> whole          diffusion_model.<original path>
    diffusers  unet.<path>, text_encoder.<path>       flat           text_encoder.<no text_model.>
    processor  unet.<path>, its attention's older spelling, .processor.to_q
    peft       base_model.model.<path>                no component in it

The layers are those of core/published.py and, by name alone, what stands outside the blocks. Law:
two layers share a name in PEFT's spelling only. Sources: formats.md 3; ComfyUI comfy/lora.py.
Cost: some thousand names a family, made once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, get_args

from .layer import Layer
from .ldm import ldm_path
from .published import PublishedModel, published_layers
from .single_file import OUTER

Family = Literal["sd1", "sd2", "sdxl"]
FAMILIES: tuple[Family, ...] = get_args(Family)
Spelling = Literal[
    "kohya", "original", "te", "te1", "te2", "diffusers", "flat", "processor", "peft", "whole"
]
_PUBLISHED: Final[Mapping[Family, PublishedModel]] = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}
_CLIPS: Final[Mapping[Family, tuple[str, ...]]] = {
    "sd1": ("clip_l",),
    "sd2": ("clip_h",),
    "sdxl": ("clip_l", "clip_g"),
}
_TEXT_MODEL: Final = "text_model."


@dataclass(frozen=True, slots=True)
class Named:
    """What a name stands for: ``path`` as in the spec; ``layer`` None outside the blocks."""

    path: str
    spelling: Spelling
    layer: Layer | None

    @property
    def component(self) -> str:
        """``unet``, ``text_encoder`` or ``text_encoder_2``."""
        return self.path.partition(".")[0]


@cache
def module_spellings(family: Family) -> Mapping[str, Named]:
    """Return every name of every layer of ``family``.

    >>> module_spellings("sd1")["lora_unet_input_blocks_0_0"].path
    'unet.conv_in'
    """
    found: dict[str, Named] = {}
    for path, layer in _layers(family):
        for spelling, name in _names(path, family):
            # PEFT's names do not say the component; the UNet's come first and none is shared.
            found.setdefault(name, Named(path, spelling, layer))
    return found


def _layers(family: Family) -> Iterator[tuple[str, Layer | None]]:
    for layer in sorted(
        published_layers(_PUBLISHED[family], "all"), key=lambda each: not each.path.startswith("un")
    ):
        yield layer.path, layer
    for module in OUTER:
        if family == "sdxl" or not module.startswith("add_embedding"):
            yield f"unet.{module}", None


def _names(path: str, family: Family) -> Iterator[tuple[Spelling, str]]:
    component, _, module = path.partition(".")
    flat = module.replace(".", "_")
    yield "diffusers", path
    yield "peft", f"base_model.model.{module}"
    if component == "unet":
        original = _original(module, family)
        yield "kohya", f"lora_unet_{flat}"
        yield "original", f"lora_unet_{original.replace('.', '_')}"
        yield "whole", f"diffusion_model.{original}"
        if ".attn" in module:
            older = path.replace(".to_", ".processor.to_").replace(".to_out.0", ".to_out")
            yield "processor", older
        return
    short = module.removeprefix(_TEXT_MODEL)
    yield "flat", f"{component}.{short}"
    yield "peft", f"base_model.model.{short}"
    first = component == "text_encoder"
    yield "te1" if first else "te2", f"lora_te{1 if first else 2}_{flat}"
    if first:
        yield "te", f"lora_te_{flat}"
    yield "whole", f"text_encoders.{_CLIPS[family][0 if first else 1]}.transformer.{module}"


def _original(module: str, family: Family) -> str:
    if module in OUTER:
        return OUTER[module]
    path = ldm_path(module)
    # SD 1 and 2 have no attention before the first upsampler, so it is the second of its block.
    return "output_blocks.2.1.conv" if (path, family == "sdxl") == _FIRST_UP else path


_FIRST_UP: Final = ("output_blocks.2.2.conv", False)
