"""One adapted layer: its path in the spec, its outputs and its inputs.

A convolution is the linear map of its unfolded input: W of shape (n, c, kh, kw) is read as n x m
with m = c kh kw, row by row, so nothing but the shape in a file tells it from a linear layer. The
path is data and never recomputed from a loaded library, because libraries rename modules
(method.md 2.1). Law: a path is 1 to 255 characters of ``[A-Za-z0-9_.]``; widths are 1..65536; a
kernel's area divides the width; the columns of an order are below the width, none twice.
"""

import math
import re
from dataclasses import dataclass

from .errors import SpecError

MAX_WIDTH = 65536
_PATH = re.compile(r"[A-Za-z0-9_.]{1,255}")
_MAX_SIDE = 255


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """A weight W of ``out`` x ``width`` that every concept adapts.

    ``kernel``: height and width of a convolution's kernel; empty for a linear layer. ``order``: O's
    columns as slots deal them out (core/quiet.py); empty: as they stand.

    >>> Layer("unet.down_blocks.0.resnets.0.conv1", 8, 36, (3, 3)).shape
    (8, 4, 3, 3)
    """

    path: str
    out: int
    width: int
    kernel: tuple[int, int] | tuple[()] = ()
    order: tuple[int, ...] = ()

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
                    fix="adapt only layers within these sizes",
                    code="bad-layer-size",
                )
        if any(not 1 <= side <= _MAX_SIDE for side in self.kernel) or self.width % self.area:
            raise SpecError(
                f"a kernel of {self.kernel} over {self.width} inputs in {self.path}",
                why=f"its sides are 1 to {_MAX_SIDE}, and a channel has one input for each place",
                fix="give the sizes that the convolution's weight has in the base model",
                code="bad-layer-kernel",
            )
        low, high = min(self.order, default=0), max(self.order, default=0)
        distinct = len(set(self.order))
        if low < 0 or high >= self.width or distinct < len(self.order):
            raise SpecError(
                f"an order of {len(self.order)} columns in {self.path}: {distinct} different ones"
                f" from {low} to {high}",
                why=f"it names columns 0 to {self.width - 1}, none twice",
                fix="make the federation again with this program",
                code="bad-layer-order",
            )

    @property
    def area(self) -> int:
        """Inputs that one channel has: 1 for a linear layer."""
        return math.prod(self.kernel)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of W in a file: (n, m), or (n, c, kh, kw)."""
        return (self.out, self.width // self.area, *self.kernel)
