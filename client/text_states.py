"""Text states that no step changes: encoded once before a training, read in every step.

    a prompt's states are fixed  iff  no text encoder is adapted, and it holds no learned word

In a federation whose layers are all of the UNet (`--targets unet`) that is so for the prompts of
public states, strangers' words among them, of class images and of a dropped caption: for half of
a step's texts or more. Whatever holds the trigger is encoded each step, since its vectors move.
Elsewhere nothing is fixed, and this passes every prompt on. Cost: 77 positions of all encoders'
widths a prompt, .24 MB for SD 1, .63 for XL, `_MOST` of them; where the others' caches are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ..core.spec import FederationSpec
from .base import Base
from .cache import Cache, key_of
from .families.conditioning import Conditioning
from .families.framing import Framing
from .placement import PASSES
from .tokens import LearnedTokens
from .training_settings import Precision

_MOST: Final = 512
_BATCH: Final = 16
_FLOAT: Final = 4


@dataclass(frozen=True, slots=True)
class TextStates:
    """Encodes prompts, out of what was kept where it can."""

    base: Base
    tokens: LearnedTokens
    rows: Mapping[str, int]  # of a kept prompt
    kept: Conditioning | None  # in CPU memory, or mapped from a file

    @staticmethod
    def made(
        base: Base,
        spec: FederationSpec,
        tokens: LearnedTokens,
        prompts: Sequence[str],
        cache: Cache,
        *,
        about: Sequence[object],
        precision: Precision,
    ) -> "TextStates":
        """Return the states of what is fixed among ``prompts``; call it with tokens attached.

        ``about`` names the base and all that decides the strangers' vectors, for the cache's key.
        """
        fixed = [p for p in dict.fromkeys(prompts) if not tokens.learns(p)][:_MOST]
        if not fixed or not keeps_text(spec):
            return TextStates(base, tokens, {}, None)

        def chunks() -> Iterator[Mapping[str, Tensor]]:
            for at in range(0, len(fixed), _BATCH):
                with torch.no_grad(), base.autocast(PASSES[precision]):
                    made = tokens.encode(fixed[at : at + _BATCH])
                pooled = {} if made.pooled is None else {"pooled": made.pooled.cpu()}
                yield {"text": made.text.cpu(), **pooled}

        found = cache.rows(key_of("text", *about, precision, fixed), len(fixed), chunks)
        kept = Conditioning(found["text"], found.get("pooled"))
        return TextStates(base, tokens, {p: row for row, p in enumerate(fixed)}, kept)

    def encode(self, prompts: Sequence[str], framings: Sequence[Framing]) -> Conditioning:
        """Return the conditions of ``prompts``, one framing a prompt, as `LearnedTokens.encode`."""
        unique = list(dict.fromkeys(prompts))
        known = [p for p in unique if p in self.rows]
        if self.kept is None or not known:
            return self.tokens.encode(prompts, framings)
        parts = [self.kept[[self.rows[p] for p in known]].to(self.base.device)]
        moving = [p for p in unique if p not in self.rows]
        if moving:
            fresh = self.tokens.encode(moving)
            parts.append(Conditioning(fresh.text, fresh.pooled))  # the sizes come at the end
        places = {p: row for row, p in enumerate((*known, *moving))}
        conditioning = Conditioning.cat(parts)[[places[p] for p in prompts]]
        return self.base.family.framed(conditioning, framings)


def keeps_text(spec: FederationSpec) -> bool:
    """Say whether a training in this federation has text states that no step changes."""
    # With layer-wise tokens a prompt is R texts, and its states R times as large.
    adapted = any(layer.path.startswith("text_encoder") for layer in spec.layers)
    return not adapted and not spec.token_layers


def text_bytes(base: Base, prompts: int) -> int:
    """Return what the states of so many prompts take at most."""
    widths = [tower.width for tower in base.towers.values()]
    lengths = {tower.tokenizer.model_max_length for tower in base.towers.values()}
    return min(_MOST, prompts) * _FLOAT * (max(lengths) * sum(widths) + widths[-1])
