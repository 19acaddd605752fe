"""What a contribution's bytes must be to be taken at all; numpy only (security.md 6 and 8).

Structure: size, SHA-256 and the one legal header, compared and never parsed (T5, T8). Numbers:
every tensor in normal form, every exponent inside its window (T7). Norm: the spectral norm of A_l,
which is that of A_l B_l^T since B_l^T B_l = 1, is at most the policy's share of that of W_l (T12).
What breaks one of these is refused and leaves nothing behind. One tensor, or neighbours of 1 MiB,
are in memory at a time: looked at one by one, 128 tensors of 32 KiB cost more than their hash.
Not here: what puts a sound contribution into quarantine (judge.py).
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int16

from ..core import layout as layouts
from ..core.errors import ContributionRejected
from ..core.layout import ContributionLayout
from ..core.quantise import Quantised, dequantise
from .policy import Policy

VOCABULARY = "tokens."
"""Before an encoder's name: the key of its longest token row among the norms of the base."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The two largest things in a blob, each in hundredths of what the base has.

    ``norm_percent``: of a layer's A, by W's spectral norm. ``embedding_percent``: of a learned
    vector, by the longest row of the vocabulary; 0 where that is not known. ``layers``: the norm of
    every layer, in the spec's order.
    """

    norm_percent: float = 0.0
    embedding_percent: float = 0.0
    layers: tuple[float, ...] = ()


def check_blob(
    path: Path,
    layout: ContributionLayout,
    *,
    sha256: str,
    norms: Mapping[str, float],
    policy: Policy,
) -> Sizes:
    """Check a whole blob; return its sizes. Raises ContributionRejected."""
    layouts.check_size(layout, path.stat().st_size)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise _rejected("the contribution's SHA-256 is not the manifest's", "blob-differs")
        file.seek(0)
        layouts.check_header(layout, file.read(len(layout.header)))
        return _check_tensors(file, layout, norms, policy.norm_percent)


def check_sealed(path: Path, num_bytes: int, *, sha256: str) -> None:
    """Check all that a stranger can of a private contribution: length and SHA-256.

    Whoever opens it checks the rest before merging. Raises ContributionRejected.
    """
    if path.stat().st_size != num_bytes:
        raise _rejected(
            f"a contribution of {path.stat().st_size} bytes, sealed it has {num_bytes}", "bad-size"
        )
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise _rejected("the contribution's SHA-256 is not the manifest's", "blob-differs")


def read(file: BinaryIO, layout: ContributionLayout, name: str, exponent: int) -> Quantised:
    """Return one tensor of an open blob, checked; threads may share the file."""
    info = layout.by_name[name]
    raw = os.pread(file.fileno(), info.size, len(layout.header) + info.offset)
    return layouts.read_tensor(layout, name, raw, exponent)


def read_exponents(file: BinaryIO, layout: ContributionLayout) -> dict[str, int]:
    """Return every tensor's exponent of an open blob."""
    file.seek(len(layout.header) + layout.exponents.offset)
    return layouts.read_exponents(layout, file.read(layout.exponents.size))


def _check_tensors(
    file: BinaryIO, layout: ContributionLayout, norms: Mapping[str, float], percent: int
) -> Sizes:
    """Check every tensor; return the largest sizes."""
    exponents = read_exponents(file, layout)
    length = 0.0
    found: dict[str, float] = {}
    for run in layout.runs:
        start = len(layout.header) + run[0].offset
        raw = os.pread(file.fileno(), len(run) * run[0].size, start)
        q = layouts.read_run(layout, run, raw, exponents)
        kind = run[0].name.partition(".")[0]
        norms_of_run = _norms(q, [exponents[info.name] for info in run]) if kind == "a" else ()
        for info, norm in zip(run, norms_of_run, strict=False):
            layer = info.name.removeprefix("a.")
            found[layer] = 100 * _check_norm(norm, norms[layer], info.name, percent)
        for info, each in zip(run, q, strict=True) if kind == "embed" else ():
            longest = norms.get(VOCABULARY + info.name.removeprefix("embed.").rpartition(".")[0])
            tensor = Quantised(each, exponents[info.name])
            length = max(length, _length(tensor) / longest if longest else 0.0)
    layers = tuple(round(found[layer.path], 2) for layer in layout.spec.layers)
    return Sizes(max(layers), round(100 * length, 2), layers)


def _norms(q: Int16[np.ndarray, "t n r"], exponents: list[int]) -> list[float]:
    """Return the spectral norm of each layer's A."""
    wide = q.astype(np.float64)
    # r x r, so cheap; exact, whatever the order of the sums (security.md 6).
    largest = np.linalg.eigvalsh(wide.transpose(0, 2, 1) @ wide)[:, -1]
    return np.ldexp(np.sqrt(np.maximum(largest, 0.0)), exponents).tolist()


def _check_norm(norm: float, limit: float, name: str, percent: int) -> float:
    """Return norm of A over norm of W, which is at most ``percent`` hundredths (T12)."""
    if norm * 100 > percent * limit:
        raise _rejected(
            f"{name} has spectral norm {norm:.4g}, allowed is {limit * percent / 100:.4g}",
            "norm-too-large",
        )
    return norm / limit if limit else 0.0


def _length(tensor: Quantised) -> float:
    """Return the length of the longest row."""
    return float(np.linalg.norm(dequantise(tensor).astype(np.float64), axis=-1).max())


def _rejected(what: str, code: str) -> ContributionRejected:
    return ContributionRejected(
        what,
        why="one contribution may not outweigh the base model or differ from what was signed",
        fix="train with a smaller learning rate or fewer steps, and pack the contribution again",
        code=code,
    )
