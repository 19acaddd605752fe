"""Layer-wise tokens: each place where the UNet reads the prompt gets the prompt in its own words.

    text (n, R length, width)    R cross-attentions, each reads its own ``length`` positions
    pooled (n, p)                of the set of `add_embedding`, which reads nothing else

So conditions stay rows that are chosen and joined as any others, and go through diffusers'
pipelines as they are; the part is cut out at the door of each cross-attention, by a hook that keeps
no state, so it is cut again where activations are recomputed, and k and v still share one tensor
(frozen_group.py). Law: the places are the spec's, and all that this base has, or an error: one left
out would read every part at once without a word. Source: P+ (arXiv:2303.09522).

Cost: the text encoders run a prompt with learned words once a place, and every other prompt once.
Left to others: which row of the token table each set reads (tokens.py).
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import SpecError
from ..core.token_layers import POOLED, token_layers
from .base import Base
from .families.conditioning import Conditioning


class LayeredText:
    """The places of one base that read a prompt, in the spec's order."""

    def __init__(self, base: Base, places: Sequence[str]) -> None:
        """Find the places. Raises SpecError: they are not all that the base has."""
        unet = base.family.components.get("unet", nn.Module())
        found = token_layers(unet.state_dict())
        if found != tuple(places):
            raise SpecError(
                f"the spec has {len(places)} token layers, the base {len(found)}, or others",
                why="a place that is left out would read what all others are told",
                fix="use the base model that the federation's spec names",
                code="token-layers-differ",
            )
        self._readers = [unet.get_submodule(p.partition(".")[2]) for p in places if p != POOLED]
        self._first = len(places) - len(self._readers)  # the set of the first cross-attention

    @property
    def readers(self) -> int:
        """Return how many cross-attentions have a text of their own."""
        return len(self._readers)

    def joined(self, conditioning: Conditioning, rows: Sequence[Sequence[int]]) -> Conditioning:
        """Return the conditions of n prompts, ``rows`` (n, places) of ``conditioning``."""
        index = torch.tensor(rows, device=conditioning.text.device)
        whole = conditioning[index[:, 0]]
        text = conditioning.text[index[:, self._first :]].flatten(1, 2)
        return Conditioning(text, whole.pooled, whole.time_ids)

    def mean(self, text: Tensor) -> Tensor:
        """Return the mean of the parts: (n, length, width)."""
        return text.unflatten(1, (len(self._readers), -1)).mean(1)

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        """Let every cross-attention read its own part inside the block."""
        handles = [
            reader.register_forward_pre_hook(_own_part(k, len(self._readers)), with_kwargs=True)
            for k, reader in enumerate(self._readers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _own_part(place: int, count: int) -> Callable[..., tuple[Any, dict[str, Any]]]:
    def own(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401  # diffusers' own
        whole: Tensor = kwargs["encoder_hidden_states"]
        length = whole.shape[1] // count
        part = whole.narrow(1, place * length, length)
        return args, {**kwargs, "encoder_hidden_states": part}

    return own
