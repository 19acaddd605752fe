"""What a contribution's bytes must be to be admitted; numpy only (security.md 6 and 8).

Structure: size, SHA-256 and the one legal header, compared and never parsed (T5, T8). Numbers:
every tensor in normal form, every exponent inside its window (T7). Norm: the spectral norm of A_l,
which is that of A_l B_l^T since B_l^T B_l = 1, is at most NORM_PERCENT of that of W_l (T12). One
tensor is in memory at a time. Interference, retention and quarantine are issue 5.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..core import layout as layouts
from ..core.errors import ContributionRejected
from ..core.layout import ContributionLayout
from ..core.quantise import Quantised

NORM_PERCENT = 100
"""The most that a layer's A may weigh, in hundredths of W's spectral norm; to be fitted."""


def check_blob(
    path: Path, layout: ContributionLayout, *, sha256: str, norms: Mapping[str, float]
) -> dict[str, int]:
    """Check a whole blob; return its figures in millionths. Raises ContributionRejected."""
    layouts.check_size(layout, path.stat().st_size)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise _rejected("the contribution's SHA-256 is not the manifest's", "blob-differs")
        file.seek(0)
        layouts.check_header(layout, file.read(len(layout.header)))
        return {"norm_ppm": _check_tensors(file, layout, norms)}


def read(file: BinaryIO, layout: ContributionLayout, name: str, exponent: int) -> Quantised:
    """Return one tensor of an open blob, checked; threads may share the file."""
    info = layout.by_name[name]
    raw = os.pread(file.fileno(), info.size, len(layout.header) + info.offset)
    return layouts.read_tensor(layout, name, raw, exponent)


def read_exponents(file: BinaryIO, layout: ContributionLayout) -> dict[str, int]:
    """Return every tensor's exponent of an open blob."""
    file.seek(len(layout.header) + layout.exponents.offset)
    return layouts.read_exponents(layout, file.read(layout.exponents.size))


def _check_tensors(file: BinaryIO, layout: ContributionLayout, norms: Mapping[str, float]) -> int:
    """Check every tensor; return the largest norm of A over that of W, in millionths."""
    exponents = read_exponents(file, layout)
    worst = 0.0
    for info in layout.content:
        tensor = read(file, layout, info.name, exponents[info.name])
        if info.name.startswith("a."):
            worst = max(worst, _check_norm(tensor, norms[info.name[2:]], info.name))
    return int(worst * 1_000_000)


def _check_norm(tensor: Quantised, limit: float, name: str) -> float:
    """Return norm of A over norm of W, which is at most NORM_PERCENT hundredths."""
    q = tensor.q.astype(np.float64)
    largest = float(np.linalg.eigvalsh(q.T @ q)[-1])  # r x r: cheap
    norm = float(np.ldexp(np.sqrt(max(largest, 0.0)), tensor.exponent))
    if norm * 100 > NORM_PERCENT * limit:
        raise _rejected(
            f"{name} has spectral norm {norm:.4g}, allowed is {limit * NORM_PERCENT / 100:.4g}",
            "norm-too-large",
        )
    return norm / limit if limit else 0.0


def _rejected(what: str, code: str) -> ContributionRejected:
    return ContributionRejected(
        what,
        why="one contribution may not outweigh the base model or differ from what was signed",
        fix="train with a smaller learning rate or fewer steps, and pack the contribution again",
        code=code,
    )
