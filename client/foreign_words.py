# pyright: basic
# transformers publishes partial types.
"""The vectors of the words that call somebody's LoRA: from an embedding file, or from a prompt.

Taken: safetensors with one tensor (v, width) an encoder, named by the encoder, as ``clip_l`` and
``clip_g``, or anything where there is one encoder. Names in the file are looked at and never kept.
"""

from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.rounding import exact
from ..core.tensorfile import read_tensor
from .adapter_file import read_header
from .base import Base

_MOST: int = 8
_MOST_CHARACTERS: int = 200  # a tokeniser of a megabyte takes minutes
_ALIASES = {
    "text_encoder": ("text_encoder", "clip_l"),
    "text_encoder_2": ("text_encoder_2", "clip_g"),
}


def rows_of(base: Base, embedding: Path | None, text: str) -> dict[str, np.ndarray]:
    """Return the rows (v, width) by encoder.

    Raises InputError: both or neither are given, or they do not fit the base.
    """
    if (embedding is None) == (not text):
        raise InputError(
            "both --embedding and --foreign-trigger, or neither",
            why="the LoRA was learnt with words that call it",
            fix='give one: --embedding FILE, or --foreign-trigger "sks person"',
            code="no-foreign-trigger",
        )
    found = _spoken(base, text) if embedding is None else _read(base, embedding)
    counts = {len(rows) for rows in found.values()}
    widths = {name: tower.width for name, tower in base.towers.items()}
    fits = all(rows.shape[1] == widths[name] for name, rows in found.items())
    if len(counts) != 1 or not 1 <= max(counts) <= _MOST or not fits:
        raise InputError(
            f"vectors of {[rows.shape for rows in found.values()]}, allowed are 1 to {_MOST} of"
            f" {list(widths.values())}",
            why="each becomes a vector of the concept",
            fix="give the words or the embedding that call this LoRA on this base model",
            code="vectors-do-not-fit",
        )
    return found


def _spoken(base: Base, text: str) -> dict[str, np.ndarray]:
    if len(text) > _MOST_CHARACTERS:  # before it is tokenised
        raise InputError(
            f"--foreign-trigger of {len(text)} characters, allowed are {_MOST_CHARACTERS}",
            why=f"at most {_MOST} tokens call a LoRA",
            fix="give the few words that its author tells to write into a prompt",
            code="vectors-do-not-fit",
        )
    found = {}
    for name, tower in base.towers.items():
        ids = tower.tokenizer(text, add_special_tokens=False).input_ids
        found[name] = tower.table.weight.detach()[ids].float().cpu().numpy()
    return found


def _read(base: Base, path: Path) -> dict[str, np.ndarray]:
    header, found = read_header(path), {}
    for name in base.towers:
        wanted = _ALIASES.get(name, (name,))
        some = [t for t in header.tensors if t.name in wanted or len(base.towers) == 1]
        # Asked of the header, before a byte is read: a few vectors, however long the file is.
        is_small = len(some) == 1 and len(some[0].shape) == 2 and 1 <= some[0].shape[0] <= _MOST  # noqa: PLR2004  # (v, width)
        if not is_small or some[0].dtype not in ("F16", "BF16", "F32"):
            raise InputError(
                f"an embedding file with {len(header.tensors)} tensors, none or many for {name}",
                why=f"one of 1 to {_MOST} vectors is needed an encoder, F16, BF16 or F32",
                fix="give a safetensors embedding of this base model",
                code="bad-embedding",
            )
        with path.open("rb") as file:
            file.seek(header.data_start + some[0].offset)
            data = file.read(some[0].size)
        found[name] = exact(read_tensor(some[0], data), some[0].dtype).astype(np.float32)
    return found
