"""``checkpoint/`` of a release: the base pipeline with the merge applied and the tokens added.

Laws (formats.md 5.6): an adapted weight is cast(float64(W) + dW), one rounding to its own type;
token rows are appended in slot order, a trigger's first vector is the token ``<trigger>`` itself
(layer-wise tokens have no row in a table, and tokenizers and configs are then the base's own);
tensor order and keys stay as on disk; every other file is a byte copy. Tensors stream: the adapted
weights that ``run`` makes ahead are the most that is in memory; threads change no byte. Files that
no component names, other precisions and other formats are left out, and so is what a release's file
names cannot hold.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .adapted_weight import adapted_layers, adapted_weight
from .base_files import BaseFiles, Place, WeightFile
from .errors import VerificationFailed
from .lorafile import checkpoint_metadata
from .merging import Merge
from .release import check_release_name
from .release_file import Buffer, PlainFile, ReleaseFile, Run, TensorFile, in_turn
from .rounding import round_once
from .spec import Layer
from .tensorfile import TensorInfo

_COPIED = re.compile(r"[^/]+/[A-Za-z0-9_-]+\.(?:json|txt|model|safetensors)")
_TOKENIZER_FILES = ("added_tokens.json", "tokenizer_config.json", "tokenizer.json")
_END = "<|endoftext|>"
_NO_END = 2
"""What published CLIP configs say and no CLIP vocabulary means: transformers then takes the largest
id for the end, which is a learned word as soon as there is one, and SDXL pools its features."""
_FLAGS = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


@dataclass(frozen=True, slots=True)
class _Encoder:
    """One text encoder: where its token rows lie, and the new tokens in order."""

    name: str
    tokenizer: str
    place: Place
    tokens: tuple[str, ...]

    @property
    def first_id(self) -> int:
        """The id of the first new token: the base's number of rows."""
        return self.place.info.shape[0]


def checkpoint_files(base: BaseFiles, merge: Merge, *, run: Run = in_turn) -> Iterator[ReleaseFile]:
    """Give the files under ``checkpoint/``, by name; ``run`` computes the adapted weights.

    Raises InputError: the base lacks a layer or a table of the spec.
    """
    encoders = {
        encoder.name: _Encoder(
            name=encoder.name,
            tokenizer=encoder.name.replace("text_encoder", "tokenizer"),
            place=base.tokens(encoder.name),
            tokens=tuple(token for token, _ in merge.token_rows(encoder.name)),
        )
        for encoder in (() if merge.spec.token_layers else merge.spec.encoders)
    }
    layers = adapted_layers(base, merge)
    rewritten = {name for name, _ in layers} | {e.place.file.name for e in encoders.values()}
    made = _made_texts(base, encoders)
    for name in _names(base, set(made)):
        if name in made:
            yield PlainFile(f"checkpoint/{name}", (made[name],))
        elif name in rewritten:
            file = next(file for file in base.weights if file.name == name)
            yield _weights(file, merge, layers, encoders, run)
        else:
            yield PlainFile(f"checkpoint/{name}", base.pieces(name), copied=True)


def _names(base: BaseFiles, made: set[str]) -> list[str]:
    """Return the files of the checkpoint: the index, and the components that it names."""
    components = {key for key in base.json("model_index.json") if key[:1] != "_"}
    names = {"model_index.json"} | made
    for name in base.sizes:
        if name.partition("/")[0] in components and _COPIED.fullmatch(name):
            names.add(name)
    return [name for name in sorted(names) if _is_release_name(f"checkpoint/{name}")]


def _is_release_name(name: str) -> bool:
    try:
        check_release_name(name)
    except VerificationFailed:
        return False
    return True


def _weights(
    file: WeightFile,
    merge: Merge,
    layers: Mapping[tuple[str, str], Layer],
    encoders: Mapping[str, _Encoder],
    run: Run,
) -> TensorFile:
    """Return one file of weights with the merge applied and the tokens added."""
    kept = [info for info in file.header.tensors if info.dtype != "I64"]  # no weights: buffers
    encoder = encoders.get(file.component)

    def shape(info: TensorInfo) -> tuple[int, ...]:
        if encoder is not None and (file.name, info.name) == _where(encoder):
            return (info.shape[0] + len(encoder.tokens), *info.shape[1:])
        return info.shape

    work = [
        partial(adapted_weight, Place(file, info), layer, merge)
        for info in kept
        if (layer := layers.get((file.name, info.name))) is not None
    ]

    def data() -> Iterator[Buffer]:
        adapted = run(work)
        for info in kept:
            if (file.name, info.name) in layers:
                yield next(adapted)
                continue
            yield from file.stored(info)
            if encoder is not None and (file.name, info.name) == _where(encoder):
                for _, row in merge.token_rows(encoder.name):
                    yield round_once(row.astype(np.float64), encoder.place.dtype).tobytes()

    return TensorFile(
        name=f"checkpoint/{file.name}",
        kind="checkpoint",
        dtype="+".join(sorted({info.dtype for info in kept})),
        entries=tuple((info.name, info.dtype, shape(info)) for info in kept),
        data=data(),
        metadata=lambda _digest: checkpoint_metadata(),
        keep_order=True,
    )


def _where(encoder: _Encoder) -> tuple[str, str]:
    return encoder.place.file.name, encoder.place.info.name


def _made_texts(base: BaseFiles, encoders: Mapping[str, _Encoder]) -> dict[str, bytes]:
    """Return the small files that the new tokens change, by name."""
    made: dict[str, bytes] = {}
    for encoder in encoders.values():
        config = dict(base.json(f"{encoder.name}/config.json"))
        config["vocab_size"] = encoder.first_id + len(encoder.tokens)
        if (end := _end_id(base, encoder)) is not None and config.get("eos_token_id") == _NO_END:
            config["eos_token_id"] = end
        made[f"{encoder.name}/config.json"] = _json(config)
        for name in _TOKENIZER_FILES:
            path = f"{encoder.tokenizer}/{name}"
            text = dict(base.json(path)) if path in base.sizes else {}
            if text or name == "added_tokens.json":
                made[path] = _json(_with_tokens(name, text, encoder))
    return made


def _end_id(base: BaseFiles, encoder: _Encoder) -> int | None:
    """Return the id of the encoder's end-of-text token, None when no vocabulary tells."""
    path = f"{encoder.tokenizer}/vocab.json"
    return base.json(path).get(_END) if path in base.sizes else None


def _with_tokens(name: str, text: dict[str, Any], encoder: _Encoder) -> dict[str, Any]:
    """Return one tokenizer file with the new tokens, in the file's own way of saying it."""
    ids = {token: encoder.first_id + i for i, token in enumerate(encoder.tokens)}
    if name == "added_tokens.json":
        return {**text, **ids}
    if name == "tokenizer_config.json" and "added_tokens_decoder" in text:
        added = {str(i): {"content": token, **_FLAGS, "special": False} for token, i in ids.items()}
        return {**text, "added_tokens_decoder": {**text["added_tokens_decoder"], **added}}
    if name == "tokenizer.json":
        entries = [
            {"id": i, "content": token, **_FLAGS, "special": False} for token, i in ids.items()
        ]
        return {**text, "added_tokens": [*text.get("added_tokens", []), *entries]}
    return text


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
