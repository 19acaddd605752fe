"""The teacher of an import: the base with somebody's whole LoRA, and what it answers.

    train, held_out    states of its own sampling, and its pictures with fresh noise; of the prompts
                       the last quarter is held out

What it says depends on no slot, so an import that is measured before its lease and again in the
leased slot samples once. Law: the same seed gives the same bits. Cost: a pass of the base for each
of some hundred states. Left to others: the student (distillation.py). Source: method.md 7.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ..core.errors import InputError
from .base import Base
from .captions import PLACE, TEMPLATES
from .draws import generator, stratified
from .tokens import LearnedTokens
from .trigger import Trigger
from .variant import Residual, Variant

PROMPTS: Final = (
    *TEMPLATES,
    "a photo of {}",
    "a drawing of {}",
    "a painting of {}, smiling",
    "{}, white background",
)
_BATCH: Final = 16
_SAMPLING_STEPS: Final = 12
_CALL: Final = "orthofed-foreign"


@dataclass(frozen=True, slots=True)
class Foreign:
    """A LoRA by layer path, scale folded into ``up``, and the rows of the words that call it.

    Shapes: residuals (n, R) and (R, m); rows (v, width) by encoder.
    """

    residuals: Mapping[str, Residual]
    rows: Mapping[str, np.ndarray]

    @property
    def digest(self) -> str:
        """What a save of this import is bound to."""
        told = hashlib.sha256()
        for path, each in sorted(self.residuals.items()):
            told.update(path.encode() + each.up.tobytes() + each.down.tobytes())
        for name, rows in sorted(self.rows.items()):
            told.update(name.encode() + rows.tobytes())
        return told.hexdigest()


@dataclass(frozen=True, slots=True)
class States:
    """Noisy latents with timestep, prompt (the place open) and what teacher and base answer."""

    noisy: Tensor
    times: Tensor
    prompts: tuple[str, ...]
    teacher: Tensor
    plain: Tensor  # the base, asked for the class noun


class Teacher:
    """One LoRA over the base, sampled."""

    def __init__(
        self,
        base: Base,
        foreign: Foreign,
        noun: str,
        *,
        seed: int,
        token_layers: tuple[str, ...] = (),
        prompts: Sequence[str] = PROMPTS,
    ) -> None:
        """Sample it; ``noun`` is what the base alone is asked for.

        Raises InputError: a prompt has no place for the concept, or the LoRA fits no layer.
        """
        _check(foreign, prompts)
        self.base, self.foreign, self.noun = base, foreign, noun
        sets = len(token_layers) or 1
        self.rows = {n: np.tile(rows, (sets, 1)) for n, rows in foreign.rows.items()}
        self.variant = Variant(foreign.residuals, {_CALL: self.rows}, token_layers=token_layers)
        cut = max(1, len(prompts) // 4)
        each = max(2, 48 // len(prompts))
        self.train = self._sampled(prompts[:-cut], each, seed)
        self.held_out = self._sampled(prompts[-cut:], each, seed + 1)

    def answers(self, told: States, tokens: LearnedTokens, phrase: str | None = None) -> Tensor:
        """Return what the base, as it is patched now, answers to the states."""
        said = [p.replace(PLACE, phrase or tokens.phrase) for p in told.prompts]
        parts = []
        for at in range(0, len(said), _BATCH):
            part = slice(at, at + _BATCH)
            conditions = tokens.encode(said[part])
            parts.append(self.base.predict(told.noisy[part], told.times[part], conditions).cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def _sampled(self, prompts: Sequence[str], each: int, seed: int) -> States:
        """Return states on the teacher's way to pictures, and its pictures with fresh noise."""
        base, random = self.base, generator(seed, "import")
        said = [prompt for prompt in prompts for _ in range(each)]
        times = torch.linspace(base.num_timesteps - 1, 0, _SAMPLING_STEPS + 1).long()[:-1]
        stops: list[int] = times.tolist()
        noisy, when, texts, answers = list[Tensor](), list[Tensor](), list[str](), list[Tensor]()
        with self.variant.applied(base) as tokens:

            def ask(latents: Tensor, at: Tensor, some: Sequence[str]) -> Tensor:
                filled = [text.replace(PLACE, tokens.phrase) for text in some]
                answer = base.predict(latents, at, tokens.encode(filled)).cpu()
                noisy.append(latents)
                when.append(at)
                texts.extend(some)
                answers.append(answer)
                return answer

            for at in range(0, len(said), _BATCH):
                some = said[at : at + _BATCH]
                latents = torch.randn(len(some), *base.latent_shape, generator=random)
                for now, then in zip(stops, [*stops[1:], None], strict=True):
                    answer = ask(latents, torch.full((len(some),), now), some)
                    latents = base.family.noise.step(latents, answer, now=now, then=then)
                draws = stratified(
                    len(some) * _SAMPLING_STEPS, below=base.num_timesteps, random=random
                )
                for part in draws[torch.randperm(len(draws), generator=random)].split(len(some)):
                    noise = torch.randn(latents.shape, generator=random)
                    ask(base.add_noise(latents, noise, part), part, some)
        made = States(torch.cat(noisy), torch.cat(when), tuple(texts), torch.cat(answers), noisy[0])
        with Variant().applied(base) as tokens:
            return replace(made, plain=self.answers(made, tokens, self.noun))


def check_vectors(triggers: Sequence[Trigger], foreign: Foreign) -> None:
    """Raise InputError where the words that call the LoRA are not as many as the vectors."""
    wanted = sum(trigger.vectors for trigger in triggers)
    given = {len(rows) for rows in foreign.rows.values()}
    if given != {wanted}:
        raise InputError(
            f"{sorted(given)} vectors call the LoRA, the concept has {wanted}",
            why="the concept's vectors start as those",
            fix="give --vectors the number of vectors or tokens that call the LoRA",
            code="vectors-do-not-fit",
        )


def _check(foreign: Foreign, prompts: Sequence[str]) -> None:
    if len(prompts) < 2 or any(PLACE not in text for text in prompts):  # noqa: PLR2004  # one is held out
        raise InputError(
            f"{len(prompts)} prompts, two or more with {PLACE} in each are needed",
            why="the concept stands there, and some prompts are only measured on",
            fix=f"write {PLACE} into every prompt",
            code="bad-prompts",
        )
    if not foreign.residuals:
        raise InputError(
            "the LoRA changes no layer that the federation adapts",
            why="nothing of it could be kept",
            fix="give a LoRA with attention projections of this base model",
            code="bad-adapter",
        )
