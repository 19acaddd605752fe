# pyright: basic
# transformers publishes partial types.
"""A concept's triggers: words of their own, each with a few learned vectors.

A trigger `anna-k7` with two vectors is two tokens, `anna-k7` and `anna-k7_1` (diffusers' spelling,
formats.md 5.1), added to a copy of the tokenizer. Their vectors are one parameter, laid over the
token embedding by hooks: ids below the base's vocabulary read the base's rows, which no gradient
and no optimiser ever sees; ids above it read ours. In a caption `{}` stands for the concept.

Every vector starts at the class noun's embedding plus a little seeded noise, since equal vectors
would get equal gradients. Strangers are invented triggers with fixed vectors: what the triggers of
other concepts may look like, so that a training learns to leave them alone (public_states.py).
Source: method.md 1.1 and 6.2 (tokens learnt jointly with A).
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
from .draws import generator

ENCODER = "text_encoder"
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
    """The vectors of some triggers, ready to be laid over a base's text encoder."""

    def __init__(
        self,
        base: Base,
        triggers: Sequence[Trigger],
        vectors: Tensor,
        *,
        strangers: Tensor | None = None,
    ) -> None:
        """Add the triggers' words to a copy of the tokenizer.

        Shapes: vectors (sum v, width); strangers (number, v, width), fixed vectors of invented
        triggers. Raises InputError: the base knows one of the words already.
        """
        super().__init__()
        self.triggers = tuple(triggers)
        self.vectors = nn.Parameter(vectors)
        self._base = base
        if strangers is None:
            strangers = vectors.new_zeros(0, 0, vectors.shape[1])
        self._strangers = strangers.flatten(0, 1)
        invented = [Trigger(f"<stranger-{k}>", strangers.shape[1]) for k in range(len(strangers))]
        self.strangers = tuple(" ".join(trigger.words) for trigger in invented)
        words = [word for trigger in (*triggers, *invented) for word in trigger.words]
        self.tokenizer = with_words(base.tokenizer, words)
        self._ids: dict[str, list[int]] = {}

    @staticmethod
    def from_noun(
        base: Base, triggers: Sequence[Trigger], noun: str, *, seed: int, strangers: int = 0
    ) -> "LearnedTokens":
        """Return tokens that all mean ``noun``, but for a little noise from ``seed``.

        ``strangers`` invented triggers, as long as the concept's phrase, lie around the noun at
        every distance that a learned vector may end at.
        """
        start = noun_vector(base, noun)
        size = start.square().mean().sqrt()
        count = sum(trigger.vectors for trigger in triggers)
        noise = torch.randn(count, start.numel(), generator=generator(seed, "tokens"))
        random = generator(seed, "strangers")
        far = torch.randn(strangers, count, start.numel(), generator=random)
        low, high = (math.log(x) for x in _STRANGE)
        distance = (low + (high - low) * torch.rand(strangers, 1, 1, generator=random)).exp()
        return LearnedTokens(
            base,
            triggers,
            start + _SPREAD * size * noise,
            strangers=start + distance * size * far,
        )

    @staticmethod
    def of(base: Base, vectors: Mapping[str, np.ndarray]) -> "LearnedTokens":
        """Return tokens with known ``vectors``: trigger name -> (v, width)."""
        width = base.token_embedding.embedding_dim
        for name, rows in vectors.items():
            if rows.ndim != 2 or rows.shape[1] != width:  # noqa: PLR2004  # a matrix
                raise InputError(
                    f"the vectors of {name} have the shape {rows.shape}, (v, {width}) is needed",
                    why="they were trained for another text encoder",
                    fix="use the embeddings that belong to this base model",
                    code="vectors-do-not-fit",
                )
        triggers = [Trigger(name, len(rows)) for name, rows in vectors.items()]
        stacked = np.concatenate([np.zeros((0, width), np.float32), *vectors.values()])
        return LearnedTokens(base, triggers, torch.from_numpy(stacked.astype(np.float32)))

    @property
    def phrase(self) -> str:
        """What stands for the concept in a prompt: all words of all triggers."""
        return " ".join(word for trigger in self.triggers for word in trigger.words)

    def state(self) -> dict[int, np.ndarray]:
        """Return a copy of each trigger's vectors (v, width) under the trigger's number."""
        rows = self.vectors.detach().numpy()
        edges = np.cumsum([0, *(trigger.vectors for trigger in self.triggers)])
        return {k: rows[a:b].copy() for k, (a, b) in enumerate(pairwise(edges.tolist()))}

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return the text features of ``prompts`` as the pipeline makes them: (n, length, width).

        Equal prompts are encoded once. Learned words count only inside `attached`.
        """
        unique = list(dict.fromkeys(prompts))
        ids = torch.tensor([self.ids(prompt) for prompt in unique])
        features = self._base.text_encoder(ids)[0]
        if len(unique) == len(prompts):
            return features
        return features[torch.tensor([unique.index(prompt) for prompt in prompts])]

    def id_of(self, word: str) -> int:
        """Return the token id of one learned word."""
        return cast("int", self.tokenizer.convert_tokens_to_ids(word))

    def ids(self, prompt: str) -> list[int]:
        """Return the token ids of ``prompt``, padded to the encoder's length."""
        if prompt not in self._ids:
            self._ids[prompt] = self.tokenizer(
                prompt,
                padding="max_length",
                max_length=self.tokenizer.model_max_length,
                truncation=True,
            ).input_ids
        return self._ids[prompt]

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        """Let the base's text encoder read our rows for our ids inside the block."""
        table, first, seen = self._base.token_embedding, self._base.vocabulary, []

        def mask(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
            seen.append(args[0])
            return (args[0].clamp(max=first - 1),)

        def overlay(_module: nn.Module, _args: tuple[Tensor], rows: Tensor) -> Tensor:
            ids = seen.pop() - first
            if not len(self.vectors):
                return rows
            table = torch.cat([self.vectors, self._strangers])
            ours = functional.embedding(ids.clamp(min=0), table)
            return torch.where((ids >= 0).unsqueeze(-1), ours, rows)

        handles = [
            table.register_forward_pre_hook(mask),
            table.register_forward_hook(overlay),
        ]
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


def noun_vector(base: Base, noun: str) -> Tensor:
    """Return the embedding of ``noun``: the mean over its tokens. Shape: (width,).

    Raises InputError: the noun has no token.
    """
    ids = base.tokenizer(noun, add_special_tokens=False).input_ids
    if not noun.strip() or not ids:
        raise InputError(
            f"the class noun {noun!r} is empty",
            why="the concept's vectors start at its embedding",
            fix="give a common noun, for example --class-noun person",
            code="empty-class-noun",
        )
    return base.token_embedding.weight[torch.tensor(ids)].mean(0).detach().clone()
