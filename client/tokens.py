# pyright: basic
# transformers publishes partial types.
"""A concept's triggers: words of their own, each with a few learned vectors in every text encoder.

A trigger `anna-k7` with two vectors is two tokens, `anna-k7` and `anna-k7_1` (diffusers' spelling,
formats.md 5.1), added to a copy of each tokenizer. Their vectors are one parameter an encoder, laid
over its token table by hooks: ids below the base's vocabulary read the base's rows, which no
gradient and no optimiser ever sees; ids above it read ours. In a caption `{}` stands for the
concept. No other file lays rows over a table.

In a federation of layer-wise tokens a trigger has one such set of vectors for each place where the
UNet reads the prompt (layered_text.py): the rows of the first place, then those of the second, and
a prompt is encoded once a place, with the ids of that place's rows.

Every vector starts at the class noun's embedding in its encoder plus a little seeded noise, since
equal vectors would get equal gradients. Strangers are invented triggers with fixed vectors: what
the triggers of other concepts may look like, so that a training learns to leave them alone
(public_states.py); nothing moves them, and one set serves every place. Source: method.md 1.1 and
6.2 (tokens learnt with A).
"""

import contextlib
import copy
import math
import re
from collections.abc import Generator, Mapping, Sequence
from itertools import pairwise
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTokenizer

from ..core.errors import InputError
from .base import Base
from .captions import PLACE
from .draws import generator
from .families.conditioning import Conditioning
from .families.framing import Framing
from .families.text_tower import TextTower
from .layered_text import LayeredText
from .trigger import Trigger

_SPREAD = 0.02  # of the noun's own root mean square: tells vectors apart, moves no meaning
_TEXTS = 16  # whose activations are in memory at once, where they are recomputed
_STRANGE = (0.5, 16.0)  # in the same unit: from a shade of the noun to where fast vectors end


class LearnedTokens(nn.Module):
    """The vectors of some triggers, ready to be laid over a base's text encoders.

    ``vectors``: one parameter (sets x sum v, width) an encoder, by component name; all triggers of
    the first set come first. There is one set, or one for each of the spec's token layers; then
    ``layered`` is not None. ``recompute``: whether these keep no activations of the text encoders.
    """

    def __init__(
        self,
        base: Base,
        triggers: Sequence[Trigger],
        vectors: Mapping[str, Tensor],
        *,
        strangers: Mapping[str, Tensor] | None = None,
        layers: Sequence[str] = (),
    ) -> None:
        """Add the triggers' words to a copy of each tokenizer.

        ``layers``: the spec's token layers. Shapes: vectors (sets x sum v, width); strangers
        (number, v, width), both by encoder. Raises InputError: the base knows one of the words
        already. Raises SpecError: the token layers are not the base's.
        """
        super().__init__()
        self.layered: Final = LayeredText(base, layers) if layers else None
        self.recompute = False
        self.sets: Final = len(layers) or 1
        self.triggers = tuple(triggers)
        self.vectors = nn.ParameterDict(
            {name: nn.Parameter(v.to(base.device)) for name, v in vectors.items()}
        )
        self._base = base
        given = strangers if strangers is not None else {}
        self._strangers = {n: rows.flatten(0, 1).to(base.device) for n, rows in given.items()}
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
        base: Base,
        triggers: Sequence[Trigger],
        noun: str,
        *,
        seed: int,
        strangers: int = 0,
        layers: Sequence[str] = (),
    ) -> "LearnedTokens":
        """Return tokens that all mean ``noun``, but for a little noise from ``seed``.

        ``layers``: the spec's token layers. ``strangers`` invented triggers, as long as the
        concept's phrase, lie around the noun at every distance that a learned vector may end at.
        """
        count = sum(trigger.vectors for trigger in triggers)
        random, strange = generator(seed, "tokens"), generator(seed, "strangers")
        low, high = (math.log(x) for x in _STRANGE)
        distance = (low + (high - low) * torch.rand(strangers, 1, 1, generator=strange)).exp()
        vectors, others = {}, {}
        for name, tower in base.towers.items():
            start = noun_vector(tower, noun)
            size = start.square().mean().sqrt()
            noise = torch.randn((len(layers) or 1) * count, start.numel(), generator=random)
            vectors[name] = start + _SPREAD * size * noise
            far = torch.randn(strangers, count, start.numel(), generator=strange)
            others[name] = start + distance * size * far
        return LearnedTokens(base, triggers, vectors, strangers=others, layers=layers)

    @staticmethod
    def of(
        base: Base,
        vectors: Mapping[str, Mapping[str, np.ndarray]],
        *,
        layers: Sequence[str] = (),
    ) -> "LearnedTokens":
        """Return tokens with known ``vectors``: trigger name -> encoder -> (sets x v, width).

        ``layers``: the spec's token layers. Raises InputError: the vectors are of other encoders or
        widths, or differ in v. Raises SpecError: the token layers are not the base's.
        """
        sets = len(layers) or 1
        widths = {name: tower.width for name, tower in base.towers.items()}
        for trigger, rows in vectors.items():
            _check_rows(trigger, rows, widths, sets)
        triggers = [
            Trigger(name, len(next(iter(v.values()))) // sets) for name, v in vectors.items()
        ]
        tensors = {}
        for name, width in widths.items():
            parts = [rows[name].reshape(sets, -1, width) for rows in vectors.values()]
            stacked = np.concatenate([np.zeros((sets, 0, width), np.float32), *parts], axis=1)
            tensors[name] = torch.from_numpy(stacked.reshape(-1, width).astype(np.float32))
        return LearnedTokens(base, triggers, tensors, layers=layers)

    @torch.no_grad()
    def start_at(self, vectors: Mapping[str, Tensor]) -> None:
        """Take over known vectors, by encoder and of the shape of its own.

        Raises InputError: they are of other triggers.
        """
        shapes = {name: rows.shape for name, rows in self.vectors.items()}
        if shapes != {name: rows.shape for name, rows in vectors.items()}:
            raise InputError(
                f"vectors of {len(vectors)} encoders with other shapes than these triggers have",
                why="a training goes on from vectors of the very same triggers",
                fix="give the triggers and the number of vectors that were leased",
                code="vectors-do-not-fit",
            )
        for name, rows in vectors.items():
            self.vectors[name].copy_(rows)

    @property
    def phrase(self) -> str:
        """What stands for the concept in a prompt: all words of all triggers."""
        return " ".join(word for trigger in self.triggers for word in trigger.words)

    def spelt(self, prompt: str) -> str:
        """Return ``prompt`` with all words of each trigger that it names by the first alone.

        As diffusers' pipelines do for tokens of a table: `anna-k7` calls `anna-k7 anna-k7_1`.
        """
        for trigger in self.triggers:
            rest = "".join(f" {word}" for word in trigger.words[1:])
            word = rf"{re.escape(trigger.name)}(?![a-z0-9_-])(?!{re.escape(rest)}\b)"
            prompt = (
                re.sub(word, trigger.name + rest, prompt, flags=re.IGNORECASE) if rest else prompt
            )
        return prompt

    def state(self) -> dict[tuple[str, int], np.ndarray]:
        """Return a copy of each trigger's vectors: (encoder, trigger number) -> (sets x v, width).

        As they travel (core/layout.py): all vectors of the trigger's first set come first.
        """
        edges = np.cumsum([0, *(trigger.vectors for trigger in self.triggers)]).tolist()
        found = {}
        for name, vectors in self.vectors.items():
            sets = vectors.detach().cpu().numpy().reshape(self.sets, edges[-1], vectors.shape[1])
            for k, (a, b) in enumerate(pairwise(edges)):
                found[name, k] = sets[:, a:b].reshape(-1, sets.shape[2]).copy()
        return found

    def encode(
        self, prompts: Sequence[str], framings: Sequence[Framing] | None = None
    ) -> Conditioning:
        """Return the conditions of ``prompts`` as the pipeline makes them.

        Equal prompts are encoded once, and once for all places where they hold no learned word.
        Learned words count only inside `attached`. ``framings`` as in `Base.condition`, one a
        prompt.
        """
        asked = [(p, k) for p in dict.fromkeys(prompts) for k in range(self._sets_of(p))]
        ids = {
            name: torch.tensor([self.ids_in_set(name, *pair) for pair in asked])
            for name in self._tokenizers
        }
        conditioning = self._condition(ids)
        rows = {pair: row for row, pair in enumerate(asked)}
        if self.layered is not None:
            sets = range(self.sets)
            every = [[rows.get((p, k), rows[p, 0]) for k in sets] for p in prompts]
            conditioning = self.layered.joined(conditioning, every)
        elif len(asked) != len(prompts):
            conditioning = conditioning[torch.tensor([rows[p, 0] for p in prompts])]
        if framings is not None:
            return self._base.family.framed(conditioning, framings)
        return conditioning

    def learns(self, prompt: str) -> bool:
        """Say whether ``prompt`` holds a learned word; a stranger's is none."""
        name = next(iter(self._tokenizers))
        own = range(*self._range(name))
        return any(token in own for token in self.ids(name, prompt))

    def probes(self, templates: Sequence[str]) -> dict[int, np.ndarray]:
        """Return each trigger's text features in ``templates``, at its last vector's place.

        With layer-wise tokens their mean over the cross-attentions, which stands for all of them:
        a layer's answer to it is the mean of its answers to each. Shapes: (number of templates, sum
        of the encoders' widths), by trigger number.
        """
        found = {}
        for k, trigger in enumerate(self.triggers):
            prompts = [text.replace(PLACE, " ".join(trigger.words)) for text in templates]
            text, parts, start = self.encode(prompts).text, [], 0
            text = text if self.layered is None else self.layered.mean(text)
            text = text.detach().float().cpu()
            for name, tower in self._base.towers.items():
                last = self.id_of(name, trigger.words[-1])
                places = [self.ids(name, prompt).index(last) for prompt in prompts]
                own = text[..., start : start + tower.width]
                parts.append(own[torch.arange(len(prompts)), places])
                start += tower.width
            found[k] = torch.cat(parts, dim=-1).numpy().copy()
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

    def _condition(self, ids: Mapping[str, Tensor]) -> Conditioning:
        """Return the conditions of all texts; few at a time where activations are recomputed."""
        if self.layered is None or not self.recompute:
            return self._base.condition(ids)
        parts = zip(*(ids[name].split(_TEXTS) for name in self._tokenizers), strict=True)

        def some(*part: Tensor) -> Conditioning:
            return self._base.condition(dict(zip(self._tokenizers, part, strict=True)))

        return Conditioning.cat([checkpoint(some, *part, use_reentrant=False) for part in parts])

    def _sets_of(self, prompt: str) -> int:
        """Return how many texts a prompt stands for: one a set where it holds a learned word."""
        return self.sets if self.learns(prompt) else 1

    def ids_in_set(self, encoder: str, prompt: str, number: int) -> list[int]:
        """Return the ids of ``prompt`` with the rows that learned words have in set ``number``.

        Behind the table lie the rows of every set, then those of the strangers, which have one.
        """
        first, last = self._range(encoder)
        own, strange = number * (last - first), (self.sets - 1) * (last - first)
        ids = self.ids(encoder, prompt)
        return [i if i < first else i + (own if i < last else strange) for i in ids]

    def _range(self, encoder: str) -> tuple[int, int]:
        """Return the first id of the triggers' words in one encoder, and the one past the last."""
        first = self._base.towers[encoder].vocabulary
        return first, first + sum(trigger.vectors for trigger in self.triggers)

    @contextlib.contextmanager
    def attached(self) -> Generator[None]:
        """Let the base read our rows for our ids inside the block, each place its own."""
        with contextlib.ExitStack() as stack:
            if self.layered is not None:
                stack.enter_context(self.layered.attached())
            for name, tower in self._base.towers.items():
                fixed = self._strangers.get(name, self.vectors[name][:0])
                stack.enter_context(laid_over(tower, self.vectors[name], fixed))
            yield


@contextlib.contextmanager
def laid_over(tower: TextTower, vectors: Tensor, fixed: Tensor) -> Generator[None]:
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
        return torch.where((ids >= 0).unsqueeze(-1), ours.to(rows.dtype), rows)

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
    return tower.table.weight.detach()[ids].float().mean(0).cpu()


def _check_rows(
    trigger: str, rows: Mapping[str, np.ndarray], widths: Mapping[str, int], sets: int
) -> None:
    """Check that one trigger has the same number of rows, of the right width, in each encoder."""
    counts = {len(part) for part in rows.values()}
    fits = rows.keys() == widths.keys() and len(counts) == 1 and max(counts) % sets == 0
    if not fits or any(rows[n].shape != (*counts, width) for n, width in widths.items()):
        given = ", ".join(f"{name} {part.shape}" for name, part in rows.items()) or "none"
        many = "v" if sets == 1 else f"{sets} v"
        wanted = ", ".join(f"{name} ({many}, {width})" for name, width in widths.items())
        raise InputError(
            f"the vectors of {trigger} are {given}; {wanted} is needed",
            why="they were trained for other text encoders",
            fix="use the embeddings that belong to this base model",
            code="vectors-do-not-fit",
        )
