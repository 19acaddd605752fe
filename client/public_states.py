"""States on which a concept must be silent, and what the base answers there.

    null-response term = mean ||eps_adapted(x_t, t, prompt) - eps_base(x_t, t, prompt)||^2

The prompts are public: the captions with the class noun in the concept's place, and templates. Two
kinds of states, made once, before training, with nothing attached (planned_states.py); none of
them leaves:

    sampled    the base samples a few images (no guidance); every state on the way is kept
    noised     the owner's images with noise, asked for any member of the class, or for a stranger

The second kind takes away what hurts most when N concepts are added: the same improvement of the
whole class in each of them, which the sum makes N times (method.md 6.4, 10), and an answer to every
word that is not the noun, which would answer the other concepts' triggers too. Strangers are
invented triggers (tokens.py). What is left to learn is what this trigger changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cache import Cache
from .captions import TEMPLATES
from .families.framing import Framing
from .planned_states import PlannedStates


@dataclass(frozen=True, slots=True)
class PublicStates:
    """n noisy latents with their timestep, prompt, framing and the base's answer; in CPU memory."""

    noisy: Tensor  # (n, channels, height, width)
    timesteps: Tensor  # (n,)
    prompts: tuple[str, ...]  # n of them
    framings: tuple[Framing, ...]  # n of them
    answers: Tensor  # (n, channels, height, width)

    @staticmethod
    def made(plans: Sequence[PlannedStates], cache: Cache, key: str) -> "PublicStates":
        """Return the states of all ``plans``, taken from ``cache`` if they are there."""
        times = torch.cat([plan.timesteps for plan in plans])

        def chunks() -> Iterator[Mapping[str, Tensor]]:
            for plan in plans:
                yield from plan.chunks()

        rows = cache.rows(key, len(times), chunks)
        return PublicStates(
            rows["noisy"],
            times,
            tuple(prompt for plan in plans for prompt in plan.prompts),
            tuple(framing for plan in plans for framing in plan.framings),
            rows["answers"],
        )


def public_prompts(captions: Sequence[str], noun: str) -> list[str]:
    """Return the prompts of the pool: every caption about any ``noun``, then the templates."""
    filled = [text.replace("{}", noun) for text in (*captions, *TEMPLATES)]
    return list(dict.fromkeys(filled))
