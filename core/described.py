"""``info.json`` and ``card.md``: what a release says of itself to programs and to people.

Laws (formats.md 9 and 10): info.json is canonical JSON of what spec, ledger and tensor files say,
so anyone rebuilds it; the card is generated and says about privacy only what security.md 9.1
permits. Titles that contributors typed appear in these two files alone. Fields whose parts come
later (figures) are left out until they are true.
"""

import hashlib
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from .canonical import encode, encode_text
from .derived_file import DerivedFile
from .kinds import loads
from .lorafile import file_rank
from .loras import release_tag
from .merging import Merge, Part
from .promises import AFTER_WITHDRAWAL, COPIES_REMAIN, MAY_REVEAL
from .release import FileEntry
from .release_file import MadeFile

Left = tuple[int, int]
"""Slot and contribution leaf of a withdrawal that came before the release was planned."""


def info_bytes(
    merge: Merge,
    n: int,
    made: Sequence[MadeFile],
    files: Sequence[FileEntry],
    *,
    basis: str,
    withdrawn: Sequence[Left],
    derived: Sequence[DerivedFile] = (),
) -> bytes:
    """Return info.json of release ``n``; ``files`` has the SHA-256 of every file in ``made``.

    ``withdrawn``: every withdrawal so far, ascending by leaf. ``derived``: what is not published
    and follows, by name; nothing is said where there is none.
    """
    spec = merge.spec
    sha256 = {file.name: file.sha256 for file in files}
    ids = [layer.path for layer in spec.layers]
    base: dict[str, object] = {
        "family": spec.base.family,
        "fingerprint": spec.base.fingerprint,
        "licence": spec.base.licence,
        "name": spec.base.name,
        "revision": spec.base.revision,
    }
    body: dict[str, object] = {
        "base": base,
        "basis": {
            "capacity": spec.capacity,
            "family": spec.basis,
            "fingerprint": basis,
            "ranks": {str(width): rank for width, rank in spec.ranks},
            "seed": spec.seed.hex(),
        },
        "concepts": [_concept(part) for part in merge.parts],
        "fed": spec.id,
        "files": [_file(file, sha256[file.name]) for file in sorted(made, key=lambda f: f.name)],
        "modules": {
            "count": len(ids),
            "ids": hashlib.sha256("\n".join(sorted(ids)).encode("ascii")).hexdigest(),
        },
        "n": n,
        "name": spec.name,
        "rank": file_rank(spec, len(merge.parts)),
        "v": 1,
        "withdrawn": [{"leaf": leaf, "slot": slot} for slot, leaf in withdrawn],
    }
    if derived:
        body["derived"] = [file.body() for file in derived]
    if spec.token_layers:  # what the sets of `layerwise/` belong to, in their order
        body["token_layers"] = list(spec.token_layers)
    return encode(body)


def _concept(part: Part) -> dict[str, object]:
    manifest = part.manifest
    entry: dict[str, object] = {
        "blob": manifest.blob,
        "client": manifest.client,
        "concept": manifest.concept,
        "fence": manifest.fence,
        "lambda": part.lambda_1024,
        "leaf": part.leaf,
        "licence": manifest.licence,
        "slot": manifest.slot,
        "triggers": [
            {"trigger": trigger, "vectors": vectors}
            for trigger, vectors in zip(manifest.triggers, part.layout.vectors, strict=True)
        ],
    }
    if manifest.title:
        entry["title"] = encode_text(manifest.title)
    if manifest.dp is not None:
        entry["dp"] = manifest.dp.body()
    return entry


def _file(file: MadeFile, sha256: str) -> dict[str, Any]:
    return {
        "autov2": sha256[:10],
        "autov3": file.tensors[:12],
        "dtype": file.dtype,
        "kind": file.kind,
        "loads": loads(file.kind),
        "name": file.name,
        "tensors": file.tensors,
    }


def card_text(merge: Merge, n: int, made: Sequence[MadeFile], *, withdrawn: Sequence[Left]) -> str:
    """Return card.md of release ``n``."""
    spec, tag = merge.spec, release_tag(n)
    triggers = [trigger for part in merge.parts for trigger in part.manifest.triggers]
    licences = sorted({part.manifest.licence for part in merge.parts})
    rows = [_row(part) for part in merge.parts]
    hashes = [f"| `{file.name}` | {file.kind} | {file.dtype} | `{file.tensors}` |" for file in made]
    lines = [
        "---",
        f"license: {licences[0] if len(licences) == 1 else 'other'}",
        f"base_model: {spec.base.name}",
        "base_model_relation: adapter",
        "library_name: diffusers",
        "pipeline_tag: text-to-image",
        "tags: [lora, text-to-image, orthogonal-adaptation]",
        f"instance_prompt: a photo of {triggers[0]}",
        "---",
        "",
        f"# {spec.name}, release {n}",
        "",
        f"{len(merge.parts)} concepts in one model, each trained by its owner on its own machine.",
        "",
        "| concept | triggers | title | strength | licence | client key |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        "## Use",
        "",
        *(_layerwise_use if spec.token_layers else _use)(merge, tag, triggers[0]),
        "",
        "## Verify",
        "",
        "`orthofed verify FOLDER` checks the signature, the ledger proof and every byte.",
        "",
        "| file | kind | type | SHA-256 of the tensors |",
        "| --- | --- | --- | --- |",
        *hashes,
        "",
        "## Limits and privacy",
        "",
        "Two concepts in one picture need region prompts.",
        "",
        *wrap(MAY_REVEAL, 90),
        "",
        *_withdrawals(withdrawn),
        *_claims(merge),
    ]
    return "\n".join(lines)


def _withdrawals(withdrawn: Sequence[Left]) -> list[str]:
    """Return the withdrawals so far, by slot and leaf, and what they cannot undo."""
    if not withdrawn:
        return []
    gone = ", ".join(f"slot {slot} (leaf {leaf})" for slot, leaf in withdrawn)
    return [
        f"Withdrawn so far: {gone}.",
        f"{AFTER_WITHDRAWAL} {COPIES_REMAIN}",
        "",
    ]


def _use(merge: Merge, tag: str, trigger: str) -> list[str]:
    """Return how to draw with the release in the programs that load it."""
    name, rank = merge.spec.name, file_rank(merge.spec, len(merge.parts))
    return [
        "```python",
        "from diffusers import DiffusionPipeline",
        'pipeline = DiffusionPipeline.from_pretrained("checkpoint")',
        f'image = pipeline("a photo of {trigger}").images[0]',
        "```",
        "",
        f"`lora/{name}-{tag}.safetensors` holds all concepts, rank {rank}; load",
        "it with strength 1 and the files of `embeddings/` as textual inversions. ComfyUI: write",
        f"`embedding:{trigger}` after a space. AUTOMATIC1111 and Forge:",
        f"`<lora:{name}-{tag}:1> a photo of {trigger}`.",
        "",
        f"`lora/{name}-{tag}-a1111.safetensors` is the same with the triggers inside, for",
        "AUTOMATIC1111 alone: diffusers refuses it and Forge may drop it. `diffusers/` holds the",
        "same LoRA under diffusers' own names; each folder of `peft/` is one adapter for",
        "`PeftModel.from_pretrained`. Never give `peft/` to `pipe.load_lora_weights`, which loads",
        "nothing from it and does not complain, and do not merge two LoRA files with kohya's merge",
        "script, which gives another sum.",
    ]


def _layerwise_use(merge: Merge, tag: str, trigger: str) -> list[str]:
    """Return the same where the triggers' vectors are layer-wise: no other program loads them."""
    name, rank = merge.spec.name, file_rank(merge.spec, len(merge.parts))
    return [
        "```console",
        f'orthofed sample FOLDER --prompt "a photo of {trigger}"',
        "```",
        "",
        f"The triggers are layer-wise: each of the {merge.spec.token_sets} places where the UNet",
        "reads the prompt has vectors of its own, in `layerwise/`. diffusers, ComfyUI,",
        "AUTOMATIC1111 and Forge cannot load such vectors. So there is no `embeddings/`, and",
        "`checkpoint/` does not know the triggers: it and",
        f"`lora/{name}-{tag}.safetensors` (all concepts, rank {rank}, strength 1) hold the",
        "residuals alone, which no prompt there calls.",
    ]


def _claims(merge: Merge) -> list[str]:
    """Return what contributors claim of differential privacy, as their own word."""
    claims = [
        f"- `{part.manifest.concept}`: {part.manifest.dp.said}"
        for part in merge.parts
        if part.manifest.dp is not None
    ]
    told = "Claimed and signed by their contributors; nobody else can check that noise was drawn:"
    return [told, "", *claims, ""] if claims else []


def _row(part: Part) -> str:
    manifest = part.manifest
    title = manifest.title.replace("|", "\\|").replace("<", "&lt;")
    share = f"{part.lambda_1024}/1024"
    triggers = ", ".join(f"`{trigger}`" for trigger in manifest.triggers)
    return (
        f"| {manifest.concept} | {triggers} | {title} | {share} | {manifest.licence}"
        f" | `{manifest.client[:16]}` |"
    )
