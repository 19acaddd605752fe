# pyright: basic
# transformers publishes partial types.
"""A concept's triggers: words of their own, each with a few learned vectors in every text encoder.

A trigger `anna-k7` with two vectors is two tokens, `anna-k7` and `anna-k7_1` (diffusers' spelling,
formats.md 5.1), added to a copy of each tokenizer. Their vectors are one parameter an encoder, laid
over its token table by hooks: ids below the base's vocabulary read the base's rows, which no
gradient and no optimiser ever sees; ids above it read ours. In a caption `{}` stands for the
concept. No other file lays rows over a table.

Every vector starts at the class noun's embedding in its encoder plus a little seeded noise, since
equal vectors would get equal gradients. Strangers are invented triggers with fixed vectors: what
the triggers of other concepts may look like, so that a training learns to leave them alone
(public_states.py). Source: method.md 1.1 and 6.2 (tokens learnt with A).
"""

import contextlib
import copy
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTokenizer

from ..core.errors import InputError
from .base import Base
from .captions import PLACE
from .draws import generator
from .families.conditioning import Conditioning
from .families.framing import Framing
from .families.text_tower import TextTower

_SPREAD = 0.02  # of the noun's own root mean square: tells vectors apart, moves no meaning
_STRANGE = (0.5, 16.0)  # in the same unit: from a shade of the noun to where fast vectors end


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger word and how many vectors it has (1 to 8)."""

    name: str
    vectors: int = 2

    @property
    def words(self) -> tuple[str, ...]:
        """The tokens: the name, then the name with _1, _2 and so on."""
        return (self.name, *(f"{self.name}_{k}" for k in range(1, self.vectors)))


class LearnedTokens(nn.Module):
    """The vectors of some triggers, ready to be laid over a base's text encoders.

    ``vectors``: one parameter (sum v, width) an encoder, by component name.
    """

    def __init__(
        self,
        base: Base,
        triggers: Sequence[Trigger],
        vectors: Mapping[str, Tensor],
        *,
        strangers: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Add the triggers' words to a copy of each tokenizer.

        Shapes: vectors (sum v, width); strangers (number, v, width), both by encoder. Raises
        InputError: the base knows one of the words already.
        """
        super().__init__()
        self.triggers = tuple(triggers)
        self.vectors = nn.ParameterDict({name: nn.Parameter(v) for name, v in vectors.items()})
        self._base = base
        given = strangers if strangers is not None else {}
        self._strangers = {name: rows.flatten(0, 1) for name, rows in given.items()}
        number, each = next(iter(given.values())).shape[:2] if given else (0, 0)
        invented = [Trigger(f"<stranger-{k}>", each) for k in range(number)]
        self.strangers = tuple(" ".join(trigger.words) for trigger in invented)
        words = [word for trigger in (*triggers, *invented) for word in trigger.words]
        self._tokenizers = {
            name: with_words(tower.tokenizer, words) for name, tower in base.towers.items()
        }
        self._ids: dict[tuple[str, str], list[int]] = {}

    @staticmethod
    def from_noun(
        base: Base, triggers: Sequence[Trigger], noun: str, *, seed: int, strangers: int = 0
    ) -> "LearnedTokens":
        """Return tokens that all mean ``noun``, but for a little noise from ``seed``.

        ``strangers`` invented triggers, as long as the concept's phrase, lie around the noun at
        every distance that a learned vector may end at.
        """
        count = sum(trigger.vectors for trigger in triggers)
        random, strange = generator(seed, "tokens"), generator(seed, "strangers")
        low, high = (math.log(x) for x in _STRANGE)
        distance = (low + (high - low) * torch.rand(strangers, 1, 1, generator=strange)).exp()
        vectors, others = {}, {}
        for name, tower in base.towers.items():
            start = noun_vector(tower, noun)
            size = start.square().mean().sqrt()
            noise = torch.randn(count, start.numel(), generator=random)
            vectors[name] = start + _SPREAD * size * noise
            far = torch.randn(strangers, count, start.numel(), generator=strange)
            others[name] = start + distance * size * far
        return LearnedTokens(base, triggers, vectors, strangers=others)

    @staticmethod
    def of(base: Base, vectors: Mapping[str, Mapping[str, np.ndarray]]) -> "LearnedTokens":
        """Return tokens with known ``vectors``: trigger name -> encoder -> (v, width).

        Raises InputError: they are of other encoders or widths, or differ in v.
        """
        widths = {name: tower.width for name, tower in base.towers.items()}
        for trigger, rows in vectors.items():
            _check_rows(trigger, rows, widths)
        triggers = [Trigger(name, len(next(iter(v.values())))) for name, v in vectors.items()]
        stacked = {
            name: np.concatenate(
                [np.zeros((0, width), np.float32), *(rows[name] for rows in vectors.values())]
            )
            for name, width in widths.items()
        }
        tensors = {name: torch.from_numpy(v.astype(np.float32)) for name, v in stacked.items()}
        return LearnedTokens(base, triggers, tensors)

    @property
    def phrase(self) -> str:
        """What stands for the concept in a prompt: all words of all triggers."""
        return " ".join(word for trigger in self.triggers for word in trigger.words)

    def state(self) -> dict[tuple[str, int], np.ndarray]:
        """Return a copy of each trigger's vectors (v, width): (encoder, trigger number) -> rows."""
        edges = np.cumsum([0, *(trigger.vectors for trigger in self.triggers)]).tolist()
        return {
            (name, k): vectors.detach().numpy()[a:b].copy()
            for name, vectors in self.vectors.items()
            for k, (a, b) in enumerate(pairwise(edges))
        }

    def encode(
        self, prompts: Sequence[str], framings: Sequence[Framing] | None = None
    ) -> Conditioning:
        """Return the conditions of ``prompts`` as the pipeline makes them.

        Equal prompts are encoded once. Learned words count only inside `attached`. ``framings`` as
        in `Base.condition`, one a prompt.
        """
        unique = list(dict.fromkeys(prompts))
        ids = {name: torch.tensor([self.ids(name, p) for p in unique]) for name in self._tokenizers}
        conditioning = self._base.condition(ids)
        if len(unique) != len(prompts):
            conditioning = conditioning[torch.tensor([unique.index(p) for p in prompts])]
        if framings is not None:
            return self._base.family.framed(conditioning, framings)
        return conditioning

    def probes(self, templates: Sequence[str]) -> dict[int, np.ndarray]:
        """Return each trigger's text features in ``templates``, at its last vector's place.

        Shapes: (number of templates, sum of the encoders' widths), by trigger number.
        """
        found = {}
        for k, trigger in enumerate(self.triggers):
            prompts = [text.replace(PLACE, " ".join(trigger.words)) for text in templates]
            text, parts, start = self.encode(prompts).text, [], 0
            for name, tower in self._base.towers.items():
                last = self.id_of(name, trigger.words[-1])
                places = [self.ids(name, prompt).index(last) for prompt in prompts]
                own = text[..., start : start + tower.width]
                parts.append(own[torch.arange(len(prompts)), places])
                start += tower.width
            found[k] = torch.cat(parts, dim=-1).detach().numpy().copy()
        return found

    def id_of(self, encoder: str, word: str) -> int:
        """Return the token id of one learned word in one encoder."""
        return cast("int", self._tokenizers[encoder].convert_tokens_to_ids(word))

    def ids(self, encoder: str, prompt: str) -> list[int]:
        """Return the token ids of ``prompt``, padded to the encoder's length."""
        if (encoder, prompt) not in self._ids:
            tokenizer = self._tokenizers[encoder]
            self._ids[encoder, prompt] = tokenizer(
                prompt,
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
            ).input_ids
        return self._ids[encoder, prompt]

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        """Let the base's text encoders read our rows for our ids inside the block."""
        with contextlib.ExitStack() as stack:
            for name, tower in self._base.towers.items():
                fixed = self._strangers.get(name, self.vectors[name][:0])
                stack.enter_context(_laid_over(tower, self.vectors[name], fixed))
            yield


@contextlib.contextmanager
def _laid_over(tower: TextTower, vectors: Tensor, fixed: Tensor) -> Generator[None]:
    """Let one table answer with ``vectors``, then ``fixed``, for the ids after its own rows."""
    table, first, seen = tower.table, tower.vocabulary, []

    def mask(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        seen.append(args[0])
        return (args[0].clamp(max=first - 1),)

    def overlay(_module: nn.Module, _args: tuple[Tensor], rows: Tensor) -> Tensor:
        ids = seen.pop() - first
        if not len(vectors):
            return rows
        ours = functional.embedding(ids.clamp(min=0), torch.cat([vectors, fixed]))
        return torch.where((ids >= 0).unsqueeze(-1), ours, rows)

    handles = [table.register_forward_pre_hook(mask), table.register_forward_hook(overlay)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def with_words(tokenizer: CLIPTokenizer, words: Sequence[str]) -> CLIPTokenizer:
    """Return a copy of ``tokenizer`` that knows ``words`` as one token each, in this order.

    Raises InputError: it knows one of them already.
    """
    extended = copy.deepcopy(tokenizer)
    known = sorted(set(words) & set(tokenizer.get_vocab()))
    if known or extended.add_tokens(list(words)) != len(words):
        raise InputError(
            f"the base model already has the token {known[0] if known else words[0]}",
            why="a trigger must not change the meaning of a word that prompts use",
            fix="choose a trigger with a hyphen or a digit, for example anna-k7",
            code="trigger-is-a-word",
        )
    return extended


def noun_vector(tower: TextTower, noun: str) -> Tensor:
    """Return the embedding of ``noun`` in one encoder: the mean over its tokens. Shape: (width,).

    Raises InputError: the noun has no token.
    """
    ids = tower.tokenizer(noun, add_special_tokens=False).input_ids
    if not noun.strip() or not ids:
        raise InputError(
            f"the class noun {noun!r} is empty",
            why="the concept's vectors start at its embedding",
            fix="give a common noun, for example --class-noun person",
            code="empty-class-noun",
        )
    return tower.table.weight[torch.tensor(ids)].mean(0).detach().clone()


def _check_rows(trigger: str, rows: Mapping[str, np.ndarray], widths: Mapping[str, int]) -> None:
    """Check that one trigger has the same number of rows, of the right width, in each encoder."""
    counts = {len(part) for part in rows.values()}
    fits = rows.keys() == widths.keys() and len(counts) == 1
    if not fits or any(rows[n].shape != (*counts, width) for n, width in widths.items()):
        given = ", ".join(f"{name} {part.shape}" for name, part in rows.items()) or "none"
        wanted = ", ".join(f"{name} (v, {width})" for name, width in widths.items())
        raise InputError(
            f"the vectors of {trigger} are {given}; {wanted} is needed",
            why="they were trained for other text encoders",
            fix="use the embeddings that belong to this base model",
            code="vectors-do-not-fit",
        )
