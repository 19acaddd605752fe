"""States on which a concept must be silent, and what the base answers there.

    null-response term = mean ||eps_adapted(x_t, t, prompt) - eps_base(x_t, t, prompt)||^2

The prompts are public: the captions with the class noun in the concept's place, and templates. Two
kinds of states, made once, before training, with nothing attached; none of them leaves:

    sampled    the base samples a few images (no guidance); every state on the way is kept
    noised     the owner's images with noise, asked for any member of the class, or for a stranger

The second kind takes away what hurts most when N concepts are added: the same improvement of the
whole class in each of them, which the sum makes N times (method.md 6.4, 10), and an answer to every
word that is not the noun, which would answer the other concepts' triggers too. Strangers are
invented triggers (tokens.py). What is left to learn is what this trigger changes.

Cost: one forward pass a state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Base
from .captions import PLACE, TEMPLATES
from .draws import Draws, generator
from .families.conditioning import Conditioning
from .families.framing import Framing

_BATCH = 16

Encode = Callable[[Sequence[str], Sequence[Framing]], Conditioning]
"""How n prompts with n framings become conditions."""


@dataclass(frozen=True, slots=True)
class PublicStates:
    """n noisy latents with their timestep, prompt and the base's answer."""

    noisy: Tensor  # (n, channels, side, side)
    timesteps: Tensor  # (n,)
    prompts: tuple[str, ...]  # n of them
    framings: tuple[Framing, ...]  # n of them
    answers: Tensor  # (n, channels, side, side)

    @staticmethod
    def sampled(  # all of them are counts of the same small loop
        base: Base,
        encode: Encode,
        prompts: Sequence[str],
        *,
        count: int,
        steps: int,
        seed: int,
        shape: tuple[int, ...] | None = None,
    ) -> "PublicStates":
        """Return the states of ``count`` images over ``steps`` sampling steps of the base alone.

        ``shape`` of one latent, (channels, height, width); None: the base's own. Each is framed as
        a whole image of its size, as a pipeline asks by default.
        """
        random = generator(seed, "public")
        chosen = [prompts[i % len(prompts)] for i in range(count)]
        start = torch.randn(count, *(shape or base.latent_shape), generator=random)
        parts = [
            _trajectory(base, encode, chosen[at : at + _BATCH], start[at : at + _BATCH], steps)
            for at in range(0, count, _BATCH)
        ]
        return PublicStates.all_of(parts)

    @staticmethod
    @torch.no_grad()
    def noised(  # the parts of one small loop
        base: Base,
        encode: Encode,
        latents: Tensor,
        captions: Sequence[str],
        framings: Sequence[Framing],
        *,
        phrases: Sequence[str],
        each: int,
        seed: int,
    ) -> "PublicStates":
        """Return ``each`` noisy states, spread over the timesteps, of every one of ``latents``.

        ``captions`` and ``framings`` are those of the latents. The first of ``phrases`` fills every
        other caption, the rest of them take turns between.
        """
        draws = Draws.fixed(each * len(latents), like=latents, below=base.num_timesteps, seed=seed)
        noisy = base.add_noise(latents[draws.images], draws.noise, draws.timesteps)
        order: list[int] = torch.randperm(len(noisy), generator=generator(seed, "phrases")).tolist()
        images: list[int] = draws.images.tolist()
        noun, *others = phrases
        others = others or [noun]
        said = [noun if n % 2 else others[n // 2 % len(others)] for n in order]
        chosen = [captions[i].replace(PLACE, text) for i, text in zip(images, said, strict=True)]
        framed = [framings[i] for i in images]
        answers = [
            base.predict(
                noisy[at : at + _BATCH],
                draws.timesteps[at : at + _BATCH],
                encode(chosen[at : at + _BATCH], framed[at : at + _BATCH]),
            )
            for at in range(0, len(noisy), _BATCH)
        ]
        return PublicStates(
            noisy, draws.timesteps, tuple(chosen), tuple(framed), torch.cat(answers)
        )

    @staticmethod
    def all_of(parts: Sequence["PublicStates"]) -> "PublicStates":
        """Return the states of all ``parts``."""
        return PublicStates(
            torch.cat([part.noisy for part in parts]),
            torch.cat([part.timesteps for part in parts]),
            tuple(prompt for part in parts for prompt in part.prompts),
            tuple(framing for part in parts for framing in part.framings),
            torch.cat([part.answers for part in parts]),
        )


def public_prompts(captions: Sequence[str], noun: str) -> list[str]:
    """Return the prompts of the pool: every caption about any ``noun``, then the templates."""
    filled = [text.replace("{}", noun) for text in (*captions, *TEMPLATES)]
    return list(dict.fromkeys(filled))


@torch.no_grad()
def _trajectory(
    base: Base,
    encode: Encode,
    prompts: Sequence[str],
    noisy: Tensor,
    steps: int,
) -> PublicStates:
    """Return every state of one batch on its way from noise to images (no noise added)."""
    framings = [base.framing(noisy.shape)] * len(prompts)
    conditioning = encode(prompts, framings)
    times = torch.linspace(base.num_timesteps - 1, 0, steps + 1).long()[:-1]
    stops: list[int] = times.tolist()
    states, answers = [], []
    for now, then in zip(stops, [*stops[1:], None], strict=True):
        answer = base.predict(noisy, torch.full((len(noisy),), now), conditioning)
        states.append(noisy)
        answers.append(answer)
        noisy = base.family.noise.step(noisy, answer, now=now, then=then)
    return PublicStates(
        torch.cat(states),
        times.repeat_interleave(len(noisy)),
        tuple(prompts) * len(times),
        tuple(framings) * len(times),
        torch.cat(answers),
    )
