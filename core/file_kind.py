"""What a tensor file is, and for which base model it was made, from its names and shapes alone.

A LoRA by the ends of its names (tensor_part.py) and their spelling; a whole checkpoint, a part of a
diffusers pipeline, learned vectors or one of our contributions by what else stands there. The
family is the one whose layers have those names and those shapes; the metadata is not believed.
Law: what fits none is `unknown`, and a LoRA that fits two families names both. Cost: linear.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, Literal, get_args

from .module_spelling import FAMILIES, Family, module_spellings
from .single_file import SingleFileNames
from .tensor_part import Algorithm, TensorPart, tensor_part
from .tensorfile import TensorInfo

Kind = Literal[
    "LoRA, kohya's names",
    "LoRA, diffusers' names",
    "LoRA, older diffusers' names",
    "LoRA, PEFT's names",
    "LoRA, ComfyUI's own names",
    "LoRA, names of more than one program",
    "LoRA with embeddings, an A1111 bundle",
    "LoRA, names of no known program",
    "embedding",
    "layer-wise embedding",
    "whole checkpoint in one file",
    "part of a diffusers pipeline",
    "OrthoFed contribution",
    "unknown",
]
LORAS: Final = frozenset(kind for kind in get_args(Kind) if kind.startswith("LoRA"))
_SPELT: Final[Mapping[str, Kind]] = {
    "lora_": "LoRA, kohya's names",
    "unet.": "LoRA, diffusers' names",
    "text_encoder.": "LoRA, diffusers' names",
    "text_encoder_2.": "LoRA, diffusers' names",
    "base_model.model.": "LoRA, PEFT's names",
    "diffusion_model.": "LoRA, ComfyUI's own names",
    "text_encoders.": "LoRA, ComfyUI's own names",
}
_BUNDLED: Final = "bundle_emb."
_WIDTHS: Final[Mapping[int, Family]] = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl"}
_MATRIX: Final = 2
_LAYERWISE: Final = 3
_MOST_VECTORS: Final = 8


@dataclass(frozen=True, slots=True)
class FileKind:
    """``families``: each that fits, none where no base model that we know has such layers.

    ``ranks``: rows of `down` and how many modules have them; of plain LoRA only.
    """

    kind: Kind
    families: tuple[Family, ...]
    algorithms: tuple[Algorithm, ...]
    ranks: Mapping[int, int]
    modules: int

    @property
    def is_lora(self) -> bool:
        """Whether a LoRA loader is the one to ask."""
        return self.kind in LORAS

    @classmethod
    def of(cls, tensors: Sequence[TensorInfo]) -> "FileKind":
        """Return what a file of these tensors is."""
        parts = [(info, part) for info in tensors if (part := tensor_part(info.name)) is not None]
        adapted = [(info, part) for info, part in parts if part.role != "alpha"]
        names = [info.name for info in tensors]
        if SingleFileNames.is_one(names):
            return cls("whole checkpoint in one file", _of_checkpoint(tensors), (), {}, 0)
        if not adapted or 2 * len(parts) < sum(not n.startswith(_BUNDLED) for n in names):
            kind, families = _no_adapter(tensors)
            return cls(kind, families, (), {}, 0)
        modules: dict[str, dict[str, TensorInfo]] = defaultdict(dict)
        for info, part in parts:
            modules[part.module][part.role] = info
        ranks: dict[int, int] = defaultdict(int)
        for roles in modules.values():
            if "down" in roles and roles["down"].shape:
                ranks[roles["down"].shape[0]] += 1
        return cls(
            _adapter_kind(names, [part for _, part in adapted]),
            _families(modules),
            tuple(sorted({part.algorithm for _, part in adapted})),
            dict(sorted(ranks.items())),
            len(modules),
        )


def module_shape(roles: Mapping[str, TensorInfo]) -> tuple[int, int] | None:
    """Return a plain LoRA module's (out, inputs), a kernel's entries counted; None: it has none."""
    up, down = roles.get("up"), roles.get("down")
    if up is None or down is None or len(up.shape) < _MATRIX or len(down.shape) < _MATRIX:
        return None
    return up.shape[0], prod(down.shape[1:])


def _adapter_kind(names: Sequence[str], parts: Sequence[TensorPart]) -> Kind:
    if any(name.startswith(_BUNDLED) for name in names):
        return "LoRA with embeddings, an A1111 bundle"
    found: set[Kind] = set()
    for part in parts:
        spelt: Kind = "LoRA, names of no known program"
        for start, kind in _SPELT.items():
            if part.module.startswith(start):
                spelt = kind
        older = part.style == "old diffusers" and spelt == "LoRA, diffusers' names"
        found.add("LoRA, older diffusers' names" if older else spelt)
    return found.pop() if len(found) == 1 else "LoRA, names of more than one program"


def _families(modules: Mapping[str, Mapping[str, TensorInfo]]) -> tuple[Family, ...]:
    """Return the families whose layers fit the most modules, if they fit half of them."""
    fits: dict[Family, int] = {}
    for family in FAMILIES:
        known, fits[family] = module_spellings(family), 0
        for module, roles in modules.items():
            named, shape = known.get(module), module_shape(roles)
            if named is not None:
                layer = named.layer
                fits[family] += shape is None or layer is None or shape == (layer.out, layer.width)
    most = max(fits.values())
    return tuple(f for f in FAMILIES if fits[f] == most) if 2 * most >= len(modules) else ()


def _of_checkpoint(tensors: Sequence[TensorInfo]) -> tuple[Family, ...]:
    """Return the family that both the text encoder's names and the UNet's widths say."""
    starts: tuple[tuple[str, Family], ...] = (
        ("conditioner.embedders.", "sdxl"),
        ("cond_stage_model.model.", "sd2"),
        ("cond_stage_model.transformer.", "sd1"),
    )
    widths = {info.shape[-1] for info in tensors if info.shape and info.name.endswith(_SOURCE)}
    for start, family in starts:
        if any(info.name.startswith(start) for info in tensors):
            return (family,) if {_WIDTHS.get(width) for width in widths} == {family} else ()
    return ()


_SOURCE: Final = ".attn2.to_k.weight"


def _no_adapter(tensors: Sequence[TensorInfo]) -> tuple[Kind, tuple[Family, ...]]:
    shapes = {info.name: info.shape for info in tensors}
    if (
        tensors
        and all(i.dtype == "I16" for i in tensors)
        and any(name.startswith(("a.", "embed.")) for name in shapes)
    ):
        return "OrthoFed contribution", ()
    for name, shape in shapes.items():
        if name.endswith(_SOURCE) and name.startswith(("down_", "mid_", "up_")):
            family = _WIDTHS.get(shape[-1] if shape else 0)
            return "part of a diffusers pipeline", () if family is None else (family,)
    starts = ("encoder.layers.", "text_model.encoder.layers.", "decoder.up_blocks.", "down_blocks.")
    if any(name.startswith(starts) for name in shapes):
        return "part of a diffusers pipeline", ()
    return _vectors(shapes) or ("unknown", ())


def _vectors(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Kind, tuple[Family, ...]] | None:
    """Return the kind of a file of learned vectors; None: it is no such file."""
    if set(shapes) == {"clip_g", "clip_l"}:
        return "embedding", ("sdxl",)
    if len(shapes) != 1:
        return None
    shape = next(iter(shapes.values()))
    if len(shape) == _LAYERWISE and shape[1] <= _MOST_VECTORS:
        return "layer-wise embedding", ()
    if len(shape) not in (1, _MATRIX) or (len(shape) == _MATRIX and shape[0] > _MOST_ROWS):
        return None
    family = _WIDTHS.get(shape[-1])
    return "embedding", () if family is None else (family,)


_MOST_ROWS: Final = 77
