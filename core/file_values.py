"""What reading a file's numbers showed: alphas, what is not finite, the hash of the data."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileValues:
    """``alphas``: by module, NaN for an alpha that is no single number.

    ``not_finite``: how many values of each tensor that has any. ``tensor_hash``: SHA-256 of the
    bytes after the header in file order, hex (formats.md 7).
    """

    alphas: Mapping[str, float]
    not_finite: Mapping[str, int]
    tensor_hash: str
