"""What a contribution's bytes must be to be taken at all; numpy only (security.md 6 and 8).

Structure: size, SHA-256 and the one legal header, compared and never parsed (T5, T8). Numbers:
every tensor in normal form, every exponent inside its window (T7). Norm: that of A_l is at most the
policy's share of that of W_l (T12; core/sizes.py). What breaks one of these is refused and leaves
nothing behind. Not here: what puts a sound contribution into quarantine (judge.py).
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from ..core import layout as layouts
from ..core.errors import ContributionRejected
from ..core.layout import ContributionLayout
from ..core.quantise import Quantised
from ..core.sizes import Sizes, sizes_of
from .policy import Policy


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

        def read(offset: int, length: int) -> bytes:
            return os.pread(file.fileno(), length, offset)

        return sizes_of(layout, read, norms=norms, norm_percent=policy.norm_percent)


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


def _rejected(what: str, code: str) -> ContributionRejected:
    return ContributionRejected(
        what,
        why="one contribution may not outweigh the base model or differ from what was signed",
        fix="train with a smaller learning rate or fewer steps, and pack the contribution again",
        code=code,
    )
