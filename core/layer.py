"""One adapted linear layer: its path in the spec, its outputs and its inputs.

The path is data and never recomputed from a loaded library, because libraries rename modules
(method.md 2.1). Law: a path is 1 to 255 characters of ``[A-Za-z0-9_.]``; widths are 1..65536.
"""

import re
from dataclasses import dataclass

from .errors import SpecError

MAX_WIDTH = 65536
_PATH = re.compile(r"[A-Za-z0-9_.]{1,255}")


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """A weight W of shape (``out``, ``width``) that every concept adapts."""

    path: str
    out: int
    width: int

    def __post_init__(self) -> None:
        """Refuse a path or a size that the basis streams and the files cannot carry."""
        if _PATH.fullmatch(self.path) is None:
            raise SpecError(
                f"layer path {self.path[:80]!r}",
                why="a path is 1 to 255 letters, digits, underscores and dots",
                fix="name the layer by its module path, as formats.md 3.1 does",
                code="bad-layer-path",
            )
        for what, size in (("outputs", self.out), ("inputs", self.width)):
            if not 1 <= size <= MAX_WIDTH:
                raise SpecError(
                    f"{size} {what} in {self.path}",
                    why=f"a layer has 1 to {MAX_WIDTH} of them",
                    fix="adapt only linear layers within these sizes",
                    code="bad-layer-size",
                )
