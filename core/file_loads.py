"""Which programs load a file: core/loaders.py for a LoRA, formats.md 11 for all other kinds.

A LoRA that fits two families is judged on the first. Of a base model that we do not know, diffusers
alone can load the LoRA, if the pipeline has its layers; no program is asked about its names then.
"""

from collections.abc import Collection, Mapping
from typing import Final

from .file_kind import FileKind, Kind
from .loaders import PROGRAMS, Outcome, Program, Verdict, verdicts

_YES: Final[tuple[Outcome, str]] = ("all", "")
_NO_LORA: Final[tuple[Outcome, str]] = ("nothing", "it is no LoRA, and kohya merges those alone")
_NOT_THERE: Final[tuple[Outcome, str]] = ("nothing", "it reads whole checkpoints in one file")
_TABLE: Final[Mapping[Kind, Mapping[Program, tuple[Outcome, str]]]] = {
    "embedding": {
        "diffusers": ("all", "with load_textual_inversion, once for each text encoder"),
        "ComfyUI": ("all", "in models/embeddings, as embedding:NAME in the prompt"),
        "A1111": ("all", "in embeddings, as NAME in the prompt"),
        "Forge": ("all", "in embeddings, as NAME in the prompt"),
        "kohya": _NO_LORA,
    },
    "whole checkpoint in one file": {
        "diffusers": ("all", "with from_single_file"),
        **dict.fromkeys(("ComfyUI", "A1111", "Forge", "kohya"), _YES),
    },
    "part of a diffusers pipeline": {
        "diffusers": ("all", "as part of its folder"),
        "ComfyUI": ("all", "if it is Stable Diffusion's, in the loader for UNET, CLIP or VAE"),
        **dict.fromkeys(("A1111", "Forge", "kohya"), _NOT_THERE),
    },
}
_NONE: Final[Mapping[Kind, str]] = {
    "layer-wise embedding": "no program has one vector a layer; orthofed sample does",
    "OrthoFed contribution": "it is no model; a coordinator merges it into a release",
    "unknown": "it is nothing that a program for pictures is known to load",
}
_KOHYA: Final[Kind] = "LoRA, kohya's names"
_OF_DIFFUSERS: Final[tuple[Kind, ...]] = (
    _KOHYA,
    "LoRA, diffusers' names",
    "LoRA, older diffusers' names",
)


def file_loads(kind: FileKind, names: Collection[str]) -> tuple[Verdict, ...]:
    """Return what each program does with a file of this kind and these tensors."""
    if kind.is_lora and kind.families:
        return verdicts(kind.families[0], names)
    if kind.is_lora:
        return tuple(_unknown_base(kind, program, names) for program in PROGRAMS)
    if kind.kind == "embedding" and not kind.families:
        return tuple(_odd_vectors(program, names) for program in PROGRAMS)
    if kind.kind == "whole checkpoint in one file" and not kind.families:
        why = "it is no Stable Diffusion 1, 2 or XL"
        return tuple(Verdict(program, "nothing", tuple(names), why) for program in PROGRAMS)
    table = _TABLE.get(kind.kind, {})
    none: tuple[Outcome, str] = ("nothing", _NONE.get(kind.kind, ""))
    found: list[Verdict] = []
    for program in PROGRAMS:
        outcome, why = table.get(program, none)
        found.append(Verdict(program, outcome, tuple(names) if outcome == "nothing" else (), why))
    return tuple(found)


def _unknown_base(kind: FileKind, program: Program, names: Collection[str]) -> Verdict:
    if program == "diffusers" and kind.kind in _OF_DIFFUSERS:
        return Verdict(program, "all", (), "if the pipeline's layers have these names and shapes")
    return Verdict(program, "nothing", tuple(names), "it has no base model with these layers")


def _odd_vectors(program: Program, names: Collection[str]) -> Verdict:
    if program == "diffusers":
        return Verdict(program, "all", (), "if the text encoder's vectors are as wide as these")
    return Verdict(program, "nothing", tuple(names), "it has no text encoder of this width")
