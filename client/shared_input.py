"""x B for the projections that read the same x, by one product.

Query, key and value of self-attention read one tensor, key and value of cross-attention another;
their B differ, so B stands side by side: x [B_q B_k B_v] is one product of t x m x 3r where three
narrow ones would each read x again. Law: what is handed out belongs to the very tensor that was
asked with (identity, not equality), and nothing of it is kept once everyone has had a part.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .frozen_linear import FrozenLinear, reduced


class SharedInput:
    """The layers of one group, by path."""

    def __init__(self, layers: Mapping[str, FrozenLinear]) -> None:
        """Put their B side by side; all have one width and one device."""
        self._b = torch.cat([layer.b for layer in layers.values()], dim=1)
        self._ranks = [layer.b.shape[1] for layer in layers.values()]
        self._paths = list(layers)
        self._x: Tensor | None = None
        self._parts: dict[str, Tensor] = {}

    def part(self, path: str, x: Tensor) -> Tensor:
        """Return x B of the layer at ``path``. Shapes: (..., m) -> (t, r)."""
        if self._x is not x or path not in self._parts:
            kind = x.device.type
            cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
            with torch.autocast(kind, enabled=False):
                small = reduced(x.reshape(-1, x.shape[-1]).to(cast), self._b)
            self._x = x
            self._parts = dict(zip(self._paths, small.split(self._ranks, dim=1), strict=True))
        mine = self._parts.pop(path)
        if not self._parts:
            self._x = None
        return mine

    def forget(self) -> None:
        """Drop what a pass left that did not ask for every part."""
        self._x, self._parts = None, {}


def groups_of(paths: list[str]) -> list[list[str]]:
    """Return the paths that read the same input, two or more each, in the given order.

    >>> groups_of(["u.attn1.to_k", "u.attn1.to_q", "u.attn2.to_k", "u.attn2.to_q"])
    [['u.attn1.to_k', 'u.attn1.to_q']]
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        parent, _, name = path.rpartition(".")
        if name in {"to_k", "to_v", "k_proj", "q_proj", "v_proj"} or (
            name == "to_q" and parent.endswith("attn1")
        ):
            found.setdefault(parent, []).append(path)
    return [group for group in found.values() if len(group) > 1]
