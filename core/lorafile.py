"""What stands in a LoRA or embedding file besides numbers: tensor names, shapes, metadata.

Names follow kohya's spelling, made from the spec's layer paths and never from a library
(formats.md 3.2); every file has one rank and alpha = rank. Metadata is an allow-list: the keys
below, always all of them, each value checked, because A1111 puts one of them into its page
unescaped (formats.md 6). Law: nothing that a contributor typed gets in, but the slugs; no clock,
no release number. Cost: linear in the layers. The numbers are core/stack.py's.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .architecture import Architecture
from .errors import SpecError
from .fields import is_hex
from .ldm import ldm_path
from .rounding import DType
from .spec import Encoder, FederationSpec

PLAIN_VALUE = re.compile(r"[A-Za-z0-9 .,:;/_()+#={}\[\]\"-]*")
"""What a value in a header may be made of (formats.md 6)."""
_SLUG = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,30}")
MAX_VALUE = 4096
JSON_KEYS = frozenset({"ss_tag_frequency", "lora_adapter_metadata"})
"""Whose values may be longer than `MAX_VALUE` characters."""
_HINT = "Trigger words: "
_GENERATIVE_MODELS = "https://github.com/Stability-AI/generative-models"
_TEXT_PREFIXES = {
    "sd1": {"text_encoder": "lora_te"},
    "sdxl": {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
    "other": {"text_encoder": "lora_te", "text_encoder_2": "lora_te2"},
}
_EMBEDDING_KEYS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


@dataclass(frozen=True, slots=True)
class ConceptEntry:
    """One concept in a file: ``blob`` is its contribution's SHA-256, ``licence`` an SPDX id."""

    slot: int
    concept: str
    triggers: tuple[str, ...]
    blob: str
    lambda_1024: int
    licence: str


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """What every file of a release says of its federation; ``basis`` is the fingerprint of B.

    ``dtype``: of LoRA files; a release has F16.
    """

    spec: FederationSpec
    basis: str
    prediction: str = "epsilon"
    dtype: DType = "F16"

    @property
    def architecture(self) -> Architecture:
        """What the base is like, in the words of headers."""
        return Architecture.of(self.spec, self.prediction)


def kohya_key(path: str, family: str = "sd1") -> str:
    """Return the base of a layer's tensor names.

    A base of family ``other`` uses sd1's, and ``lora_te2`` for a second text encoder.

    >>> kohya_key("unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0")
    'lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0'

    Raises SpecError: a component or a layer that the family does not have.
    """
    component, _, module = path.partition(".")
    if component == "unet":
        return "lora_unet_" + (ldm_path(module) if family == "sdxl" else module).replace(".", "_")
    prefix = _TEXT_PREFIXES[family].get(component) if family in _TEXT_PREFIXES else None
    if prefix is None:
        raise SpecError(
            f"component {component[:40]!r} in a base of family {family[:40]!r}",
            why="its files have no names for it",
            fix="adapt the UNet and the text encoders of this family only",
            code="unknown-component",
        )
    return f"{prefix}_{module.replace('.', '_')}"


def embedding_keys(encoders: Sequence[Encoder], trigger: str) -> dict[str, str]:
    """Return the tensor name of each encoder's vectors in the file of ``trigger``.

    One encoder: the trigger; two: ``clip_l`` and ``clip_g`` (formats.md 5.2).

    >>> embedding_keys([Encoder("text_encoder", 8), Encoder("text_encoder_2", 8)], "anna-k7")
    {'text_encoder': 'clip_l', 'text_encoder_2': 'clip_g'}

    Raises SpecError: two encoders, and one of them is not SDXL's.
    """
    names = [encoder.name for encoder in encoders]
    if len(names) == 1:
        return {names[0]: trigger}
    for name in names:
        if name not in _EMBEDDING_KEYS:
            raise SpecError(
                f"text encoder {name[:40]!r} beside another",
                why="an embedding file has no name for its vectors",
                fix="use a base whose text encoders are text_encoder and text_encoder_2",
                code="unknown-component",
            )
    return {name: _EMBEDDING_KEYS[name] for name in names}


def embedding_folder(spec: FederationSpec) -> str:
    """Return the folder of a release with the learned vectors, one file a trigger.

    ``layerwise`` has a set of them for each token layer, [layers, v, width], and no other program
    loads it; so it is never the one where they look (formats.md 5.2).
    """
    return "layerwise" if spec.token_layers else "embeddings"


def lora_entries(spec: FederationSpec, rank: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return name and shape of every tensor of a kohya file of ``rank``, sorted by name.

    A convolution's ``down`` is R kernels of its own size, its ``up`` a 1 x 1 convolution.
    """
    entries: list[tuple[str, tuple[int, ...]]] = []
    for layer in spec.layers:
        key = kohya_key(layer.path, spec.base.family)
        entries += [
            (f"{key}.alpha", ()),
            (f"{key}.lora_down.weight", (rank, *layer.shape[1:])),
            (f"{key}.lora_up.weight", (layer.out, rank, *(1 for _ in layer.kernel))),
        ]
    return tuple(sorted(entries))


def file_rank(spec: FederationSpec, num_concepts: int) -> int:
    """Return R of a file with ``num_concepts``: the largest sum of ranks over the layers.

    Above 2048 it is raised to the next number that F16 holds, as alpha = R is stored in it.
    """
    rank = num_concepts * max(rank for _, rank in spec.ranks)
    step = 1
    while rank > 2048 * step:  # F16 has 11 bits of mantissa
        step *= 2
    return -(-rank // step) * step


def content_digest(concepts: Sequence[ConceptEntry]) -> str:
    """Return the SHA-256 of the lines "<slot> <blob> <lambda>", slots ascending (formats.md 6)."""
    lines = [f"{c.slot} {c.blob} {c.lambda_1024}\n" for c in _by_slot(concepts)]
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def lora_metadata(
    origin: FileOrigin,
    concepts: Sequence[ConceptEntry],
    *,
    rank: int,
    tensor_hash: str,
    single: bool = False,
) -> dict[str, str]:
    """Return the metadata of a kohya file: of all concepts, or of one alone (``single``).

    ``tensor_hash``: SHA-256 of the bytes after the header, in hex. Raises SpecError: a value that
    a header may not hold.
    """
    spec = origin.spec
    ordered = _by_slot(concepts)
    title = ordered[0].concept if single else f"{len(ordered)} concepts"
    suffix = f"-{ordered[0].concept}" if single else ""
    like = origin.architecture
    tags = {c.concept: dict.fromkeys(sorted(c.triggers), 1) for c in ordered}
    return _checked(
        {
            **_modelspec(origin, ordered, title=title, tensor_hash=tensor_hash, kind="lora"),
            "modelspec.implementation": _GENERATIVE_MODELS if like.is_sdxl else "diffusers",
            "ss_base_model_version": like.version,
            "ss_network_alpha": str(rank),
            "ss_network_dim": str(rank),
            "ss_network_module": "networks.lora",
            "ss_output_name": f"{spec.name}{suffix}",
            "ss_sd_model_name": spec.base.name,
            "ss_tag_frequency": json.dumps(tags, sort_keys=True, separators=(",", ":")),
            "ss_v2": str(like.is_sd2),
            "sshs_model_hash": tensor_hash,
        }
    )


def embedding_metadata(
    origin: FileOrigin, concept: ConceptEntry, *, trigger: str, tensor_hash: str
) -> dict[str, str]:
    """Return the metadata of one trigger's embedding file.

    Of layer-wise vectors it does not say ``textual-inversion``, which a loader would believe.
    """
    only = ConceptEntry(
        concept.slot,
        concept.concept,
        (trigger,),
        concept.blob,
        concept.lambda_1024,
        concept.licence,
    )
    kind = "layerwise-tokens" if origin.spec.token_layers else "textual-inversion"
    return _checked(
        {
            **_modelspec(origin, (only,), title=trigger, tensor_hash=tensor_hash, kind=kind),
            "modelspec.implementation": _GENERATIVE_MODELS,
            "modelspec.is_negative_embedding": "false",
        }
    )


def full_metadata(
    origin: FileOrigin, concepts: Sequence[ConceptEntry], *, tensor_hash: str
) -> dict[str, str]:
    """Return the metadata of the single file in ``full/``; ``tensor_hash`` in hex."""
    ordered = _by_slot(concepts)
    title = f"{len(ordered)} concepts"
    return _checked(
        {
            **_modelspec(origin, ordered, title=title, tensor_hash=tensor_hash),
            "modelspec.implementation": _GENERATIVE_MODELS,
        }
    )


def origin_metadata(
    origin: FileOrigin, concepts: Sequence[ConceptEntry], said: Mapping[str, str]
) -> dict[str, str]:
    """Return ``said``, what a loader asks for, and whose file it is: ``diffusers/``, ``peft/``."""
    return _checked({**said, **_whose(origin, _by_slot(concepts))})


def checkpoint_metadata() -> dict[str, str]:
    """Return the metadata of the weights in ``checkpoint/``: what diffusers asks for."""
    return {"format": "pt"}


def _by_slot(concepts: Sequence[ConceptEntry]) -> tuple[ConceptEntry, ...]:
    """Return the concepts by slot, their slugs and hashes checked by their own patterns."""
    for entry in concepts:
        names = (entry.concept, *entry.triggers)
        if not all(_SLUG.fullmatch(name) for name in names) or not is_hex(entry.blob):
            raise _bad(f"concept {entry.concept[:40]!r}", "names are slugs, blobs are SHA-256")
    if not concepts:
        raise _bad("a file of no concept", "a LoRA holds at least one")
    return tuple(sorted(concepts, key=lambda entry: entry.slot))


def _modelspec(
    origin: FileOrigin,
    concepts: Sequence[ConceptEntry],
    *,
    title: str,
    tensor_hash: str,
    kind: str = "",
) -> dict[str, str]:
    """Return the keys that LoRA, embedding and full files share; no ``kind``: a whole model."""
    if not is_hex(tensor_hash) or not is_hex(origin.basis):
        raise _bad("a hash that is no SHA-256", "hashes are 64 lower-case hex digits")
    spec = origin.spec
    triggers = _phrase([trigger for entry in concepts for trigger in entry.triggers])
    like = origin.architecture
    return {
        "modelspec.architecture": f"{like.name}/{kind}" if kind else like.name,
        "modelspec.hash_sha256": f"0x{tensor_hash}",
        "modelspec.license": " AND ".join(sorted({entry.licence for entry in concepts})),
        "modelspec.prediction_type": origin.prediction,
        "modelspec.resolution": f"{like.side}x{like.side}",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.tags": "orthogonal-adaptation",
        "modelspec.title": f"{spec.name}: {title}",
        "modelspec.trigger_phrase": triggers,
        "modelspec.usage_hint": f"{_HINT}{triggers}",
        **_whose(origin, concepts),
    }


def _phrase(triggers: Sequence[str]) -> str:
    """Return the triggers as one value; of more than it may hold, the first ones and their number.

    ``ss_tag_frequency`` and the card have all of them.

    >>> _phrase(["anna-k7", "wren-c1"])
    'anna-k7, wren-c1'
    """
    whole = ", ".join(triggers)
    room = MAX_VALUE - len(_HINT)
    if len(whole) <= room:
        return whole
    room -= len(f", and {len(triggers)} more")
    kept = whole[: room + 1].rpartition(", ")[0]
    return f"{kept}, and {len(triggers) - kept.count(', ') - 1} more"


def _whose(origin: FileOrigin, concepts: Sequence[ConceptEntry]) -> dict[str, str]:
    """Return our own keys, which all files but those of ``checkpoint/`` have."""
    return {
        "orthofed.basis": origin.basis,
        "orthofed.content": content_digest(concepts),
        "orthofed.format": "1",
        "orthofed.spec": origin.spec.id,
    }


def _checked(metadata: Mapping[str, str]) -> dict[str, str]:
    """Refuse a value that could be read as anything but text (A1111's page shows some)."""
    for key, value in metadata.items():
        if PLAIN_VALUE.fullmatch(value) is None or (
            len(value) > MAX_VALUE and key not in JSON_KEYS
        ):
            raise _bad(f"{key} = {value[:40]!r}", f"plain ASCII, at most {MAX_VALUE} characters")
    return dict(sorted(metadata.items()))


def _bad(what: str, why: str) -> SpecError:
    return SpecError(
        what,
        why=why,
        fix="choose names and licences within the allow-list of formats.md 6",
        code="bad-metadata",
    )
