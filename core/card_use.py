"""How a release is used in the programs that load it: a section of its card (core/card.py).

Laws: each Python snippet runs as it stands, with the release's folder as the current one and the
base where its name says (tests/test_card_snippets.py); a program is named where it loads the files
(formats.md 11), and only for a base that it knows. Names in it are slugs, file names and what the
spec lets a base be called, none of which can end a quote or a line. Source: formats.md 5, 10, 12.
"""

import json
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Final

from .kinds import DERIVABLE
from .lorafile import FileOrigin, file_rank
from .merging import Merge
from .release_file import MadeFile

_WHICH: Final = (
    "`concepts/` has one each; a file of `diffusers/` is the same LoRA under diffusers' own",
    "names: load one of them. Strength 1 is what the table says. Never give a folder of PEFT's",
    "to `pipe.load_lora_weights`, which loads nothing from it, without a word, and do not",
    "merge two LoRA files with kohya's merge script, which gives another sum.",
)
"""Of a release that has all of them, as the default one has."""


def shown_prompt(prompt: str, trigger: str) -> str:
    """Return the spec's ``prompt`` with a concept in it, as cards and sample pictures have it.

    >>> shown_prompt("a photo of {}", "anna-k7")
    'a photo of anna-k7'
    """
    return prompt.replace("{}", trigger)


def use_lines(merge: Merge, origin: FileOrigin, made: Sequence[MadeFile]) -> list[str]:
    """Return the section's lines; ``made``: the files of tensors that are there.

    A folder that was composed for one program may lack the stacked LoRA.
    """
    if not merge.parts:
        return [
            "There is nothing to load. What is sealed for you is merged with the base by",
            "`orthofed pull COORDINATOR --key FILE --base FOLDER`.",
        ]
    if not any(file.kind == "lora" for file in made):
        return _one_program(merge, made)
    if merge.spec.token_layers:
        return _layerwise_use(merge, made)
    return _use(merge, origin, made)


def _prompt(merge: Merge) -> str:
    return shown_prompt(merge.spec.prompt, merge.parts[0].manifest.triggers[0])


def _use(merge: Merge, origin: FileOrigin, made: Sequence[MadeFile]) -> list[str]:
    """Return how to draw with the release in the programs that load it."""
    names = {file.kind: file.name for file in made}  # of `lora` and `a1111` there is one each
    lines: list[str] = []
    if "checkpoint" in names:
        lines += ["With diffusers, the whole model:", "", *_python(_whole(merge)), ""]
    lines += ["With diffusers, on the base model:", ""]
    lines += [*_python(_on_base(merge, names["lora"])), ""]
    if "peft" in names:
        lines += ["With PEFT, without the triggers' vectors:", ""]
        lines += [*_python(_with_peft(merge, made)), ""]
    if origin.architecture.is_published:
        lines += [*_web_uis(merge, names), ""]
    else:
        lines += ["ComfyUI, AUTOMATIC1111 and Forge know no such base model.", ""]
    return [*lines, *_which(names, file_rank(merge.spec, len(merge.parts)))]


def _which(names: Mapping[str, str], rank: int) -> list[str]:
    """Return which of the files that are there is which; nothing is said of one that is not."""
    lora = f"`{names['lora']}` holds all concepts, rank {rank}"
    if names.keys() >= {"concept", "diffusers", "peft"}:
        return [f"{lora}, and", *_WHICH]
    told = [
        *(["`concepts/` has one each: load that or this."] if "concept" in names else []),
        *(["A file of `diffusers/` is the same LoRA: load one."] if "diffusers" in names else []),
        "Strength 1 is what the table says. Do not merge two LoRA files with kohya's merge",
        "script, which gives another sum.",
    ]
    return [f"{lora}.", *wrap(" ".join(told), 90)]


def _python(lines: Sequence[str]) -> list[str]:
    return ["```python", *lines, "```"]


def _draw(merge: Merge) -> str:
    return f"image = pipeline({json.dumps(_prompt(merge))}).images[0]"


def _whole(merge: Merge) -> list[str]:
    return [
        "from diffusers import DiffusionPipeline",
        "",
        'pipeline = DiffusionPipeline.from_pretrained("checkpoint")',
        _draw(merge),
    ]


def _on_base(merge: Merge, lora: str) -> list[str]:
    """Return the LoRA and one trigger's vectors, loaded into the base's own pipeline."""
    folder, _, name = lora.partition("/")
    trigger = merge.parts[0].manifest.triggers[0]
    both = len(merge.spec.encoders) > 1
    words = _two_encoders(trigger) if both else [
        f'pipeline.load_textual_inversion("embeddings/{trigger}.safetensors")',
    ]  # fmt: skip
    return [
        "from diffusers import DiffusionPipeline",
        *(["from safetensors.torch import load_file"] if both else []),
        "",
        _opened(merge),
        f'pipeline.load_lora_weights("{folder}", weight_name="{name}")',
        *words,
        _draw(merge),
    ]


def _opened(merge: Merge) -> str:
    """Return the line that opens the base; its name may be a hub's or a folder's."""
    return f"pipeline = DiffusionPipeline.from_pretrained({json.dumps(merge.spec.base.name)})"


def _two_encoders(trigger: str) -> list[str]:
    """Return two calls, as one raises; and where the text ends, which XL's config says wrongly."""
    return [
        f'vectors = load_file("embeddings/{trigger}.safetensors")',
        'for key, end in (("clip_l", ""), ("clip_g", "_2")):',
        "    pipeline.load_textual_inversion(",
        "        vectors[key],",
        f'        token="{trigger}",',
        '        text_encoder=getattr(pipeline, "text_encoder" + end),',
        '        tokenizer=getattr(pipeline, "tokenizer" + end),',
        "    )",
        "pipeline.text_encoder_2.text_model.eos_token_id = pipeline.tokenizer_2.eos_token_id",
    ]


def _with_peft(merge: Merge, made: Sequence[MadeFile]) -> list[str]:
    parts = sorted({file.name.split("/")[1] for file in made if file.kind == "peft"})
    return [
        "from diffusers import DiffusionPipeline",
        "from peft import PeftModel",
        "",
        _opened(merge),
        f"for name in {json.dumps(parts)}:",
        '    model = PeftModel.from_pretrained(getattr(pipeline, name), "peft/" + name)',
        "    setattr(pipeline, name, model.merge_and_unload())",
    ]


def _web_uis(merge: Merge, names: dict[str, str]) -> list[str]:
    """Return what goes where and what is typed, by program."""
    trigger = merge.parts[0].manifest.triggers[0]
    prompt = _prompt(merge)
    stem = _stem(names["lora"])
    typed = shown_prompt(merge.spec.prompt, f"embedding:{trigger}")
    return [
        *(_instead(names["full"]) if "full" in names else []),
        f"- ComfyUI: `{stem}.safetensors` in `models/loras`, strength 1 for model and clip; the",
        f"  files of `embeddings/` in `models/embeddings`. Type `{typed}`, with a space",
        "  before `embedding:` and a space or a comma after the name.",
        f"- Forge: `{stem}.safetensors` in `models/Lora`, the files of `embeddings/` in",
        f"  `embeddings`. Type `<lora:{stem}:1> {prompt}`.",
        "- AUTOMATIC1111: as Forge.",
        *(_bundle(_stem(names["a1111"]), prompt) if "a1111" in names else []),
    ]


def _bundle(stem: str, prompt: str) -> list[str]:
    return [
        f"  Or `{stem}.safetensors` alone, which has the triggers inside:",
        f"  `<lora:{stem}:1> {prompt}`. No other program takes that file: diffusers refuses it and",
        "  Forge may drop it.",
    ]


def _one_program(merge: Merge, made: Sequence[MadeFile]) -> list[str]:
    """Return the same where the files are those for one program, which its user knows."""
    words = ", ".join(trigger for part in merge.parts for trigger in part.manifest.triggers)
    names = [f"- `{file.name}`" for file in made if file.kind in DERIVABLE]
    return ["Made for the program that loads these:", "", *names, "", f"Words: {words}."]


def _instead(full: str) -> list[str]:
    return [
        f"- All three: `{full}` among the checkpoints, in place of base and LoRA, with the files",
        "  of `embeddings/`.",
    ]


def _stem(name: str) -> str:
    return name.partition("/")[2].removesuffix(".safetensors")


def _layerwise_use(merge: Merge, made: Sequence[MadeFile]) -> list[str]:
    """Return the same where the triggers' vectors are layer-wise: no other program loads them."""
    name, rank = _lora(made), file_rank(merge.spec, len(merge.parts))
    return [
        "```console",
        f'orthofed sample FOLDER --prompt "{_prompt(merge)}"',
        "```",
        "",
        f"The triggers are layer-wise: each of the {merge.spec.token_sets} places where the UNet",
        "reads the prompt has vectors of its own, in `layerwise/`. diffusers, ComfyUI,",
        "AUTOMATIC1111 and Forge cannot load such vectors. So there is no `embeddings/`, and",
        "`checkpoint/` does not know the triggers: it and",
        f"`{name}` (all concepts, rank {rank}, strength 1) hold the",
        "residuals alone, which no prompt there calls.",
    ]


def _lora(made: Sequence[MadeFile]) -> str:
    return next(file.name for file in made if file.kind == "lora")
