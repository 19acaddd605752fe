"""``info.json``: what a release says of itself to programs; to people it is card.py.

Law (formats.md 9): canonical JSON of what spec, ledger and tensor files say, so anyone rebuilds it.
Titles that contributors typed appear here and in the card alone. Fields whose parts come later
(figures) are left out until they are true.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from .canonical import encode, encode_text
from .derived_file import DerivedFile
from .kinds import loads
from .lorafile import file_rank
from .merging import Merge, Part
from .release import FileEntry
from .release_file import MadeFile
from .spec import PROMPT

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
            **({"epochs": spec.epochs} if spec.epochs > 1 else {}),
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
    if spec.prompt != PROMPT:  # what its card and its sample pictures ask for
        body["prompt"] = spec.prompt
    if spec.token_layers:  # what the sets of `layerwise/` belong to, in their order
        body["token_layers"] = list(spec.token_layers)
    return encode(body)


def _concept(part: Part) -> dict[str, object]:
    manifest = part.manifest
    entry: dict[str, object] = {
        "blob": part.content,
        "client": manifest.client,
        "concept": manifest.concept,
        "fence": manifest.fence,
        "lambda": part.lambda_1024,
        "leaf": part.leaf,
        "licence": manifest.licence,
        "slot": manifest.block,
        "triggers": [
            {"trigger": trigger, "vectors": vectors}
            for trigger, vectors in zip(manifest.triggers, part.layout.vectors, strict=True)
        ],
    }
    if manifest.title:
        entry["title"] = encode_text(manifest.title)
    if part.owners:
        entry["owners"] = [_owner(each) for each in part.owners]
    if manifest.dp is not None:
        entry["dp"] = manifest.dp.body()
    return entry


def _owner(part: Part) -> dict[str, object]:
    """Return what is said of one of several owners of a concept."""
    manifest = part.manifest
    return {
        "blob": manifest.blob,
        "client": manifest.client,
        "fence": manifest.fence,
        "images": manifest.count,
        "lambda": part.lambda_1024,
        "leaf": part.leaf,
        "slot": manifest.slot,
    }


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
