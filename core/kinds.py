"""Every kind of file that a release is made of, and what makes it: one table for all who ask.

The coordinator writes them (coordinator/writing.py), a consumer rebuilds and compares them
(client/rebuild.py) or makes those that it wants (client/local_merge.py, `pull --as`). Law: a kind's
files follow from (merge, origin, base, n) alone, so whoever has the contributions and the base has
the same bytes. ``loads``: the programs that take them (formats.md 11). Not here: info.json and the
card, which are made of what these gave (described.py, card.py).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .a1111 import a1111_files
from .base_files import BaseFiles
from .diffusers_lora import diffusers_files
from .full_file import full_files
from .lorafile import FileOrigin
from .loras import concept_files, embedding_files, lora_files
from .merging import Merge
from .peft_folder import peft_files
from .pipeline import checkpoint_files
from .release_file import ReleaseFile, Run, in_turn

Make = Callable[[Merge, FileOrigin, BaseFiles | None, int, Run], Iterator[ReleaseFile]]
"""Gives the files of one kind, in the order in which they are written."""


@dataclass(frozen=True, slots=True)
class Kind:
    """``make``: its files; ``loads``: who takes them, in info.json's words."""

    make: Make
    loads: tuple[str, ...]


def _checkpoint(
    merge: Merge, _origin: FileOrigin, base: BaseFiles | None, _n: int, run: Run
) -> Iterator[ReleaseFile]:
    if base is not None:
        yield from checkpoint_files(base, merge, run=run)


def _full(
    merge: Merge, origin: FileOrigin, base: BaseFiles | None, n: int, run: Run
) -> Iterator[ReleaseFile]:
    if base is not None:
        yield from full_files(base, merge, origin, n=n, run=run)


_UIS = ("diffusers", "comfyui", "a1111", "forge")
KINDS: Final[Mapping[str, Kind]] = {
    "lora": Kind(lambda merge, origin, _base, n, _run: lora_files(merge, origin, n=n), _UIS),
    "a1111": Kind(lambda m, origin, _base, n, _run: a1111_files(m, origin, n=n), ("a1111",)),
    "concept": Kind(lambda merge, origin, _base, _n, _run: concept_files(merge, origin), _UIS),
    "embedding": Kind(lambda merge, origin, _base, _n, _run: embedding_files(merge, origin), _UIS),
    "diffusers": Kind(
        lambda merge, origin, _base, _n, _run: diffusers_files(merge, origin), ("diffusers",)
    ),
    "peft": Kind(lambda merge, origin, _base, _n, _run: peft_files(merge, origin), ("peft",)),
    "checkpoint": Kind(_checkpoint, ("diffusers",)),
    "full": Kind(_full, (*_UIS, "kohya")),
}
"""In the order in which a release is written and its card lists it."""
DERIVABLE: Final = ("a1111", "checkpoint", "diffusers", "full", "peft")
"""What a consumer makes from the contributions, some of it with the base: the LoRA in other
spellings, and whole models. A release may leave it out and say its hashes (derived_file.py)."""
WHOLE: Final = frozenset({"checkpoint", "full"})
"""What is made with the base: whole models."""
DERIVED: Final = ("full",)
"""What is left out where the operator says nothing: a full file is the checkpoint once more."""
PUBLISHED: Final = tuple(kind for kind in KINDS if kind not in DERIVED)
"""What a release holds then."""
_LAYERWISE = ("orthofed",)


def release_files(  # what a release follows from
    merge: Merge,
    origin: FileOrigin,
    base: BaseFiles | None,
    *,
    n: int,
    kinds: Collection[str] = PUBLISHED,
    run: Run = in_turn,
) -> Iterator[ReleaseFile]:
    """Give the files of ``kinds`` of release ``n``; ``run`` computes adapted weights.

    ``base``: None leaves out what is made of the base, ``checkpoint`` and ``full``. A merge of
    nothing has no files: what is adapted is the base as it was.

    Raises InputError: the base lacks a layer or a table of the spec.
    """
    for name, kind in KINDS.items():
        if merge.parts and name in kinds:
            yield from kind.make(merge, origin, base, n, run)


def loads(kind: str) -> list[str]:
    """Return who takes a file of ``kind``; ``layerwise`` vectors are no other program's."""
    return list(_LAYERWISE if kind == "layerwise" else KINDS[kind].loads)
