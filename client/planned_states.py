"""How public states come about: what is asked, where, and the work that gives the base's answers.

    sampled    the base samples a few images (no guidance); every state on the way is kept
    noised     the owner's images with noise, asked for any member of the class, or for a stranger

What is asked follows from the seed alone and is known at once; noisy latents and answers come in
chunks, for a cache to keep (cache.py). Nothing may be attached to the base but the strangers' words
while chunks are made. Cost: one forward pass a state.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Base
from .cache import Chunks
from .captions import PLACE
from .draws import generator, stratified
from .families.conditioning import Conditioning
from .families.framing import Framing

BATCH = 16

Encode = Callable[[Sequence[str], Sequence[Framing]], Conditioning]
"""How n prompts with n framings become conditions."""


@dataclass(frozen=True, slots=True)
class PlannedStates:
    """n states; ``chunks`` makes their `noisy` latents and the base's `answers`, in this order."""

    timesteps: Tensor  # (n,)
    prompts: tuple[str, ...]  # n of them
    framings: tuple[Framing, ...]  # n of them
    chunks: Chunks

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
    ) -> "PlannedStates":
        """Return the states of ``count`` images over ``steps`` sampling steps of the base alone.

        ``shape`` of one latent, (channels, height, width); None: the base's own. Each is framed as
        a whole image of its size, as a pipeline asks by default.
        """
        shape = shape or base.latent_shape
        framing = base.framing(shape)
        chosen = [prompts[i % len(prompts)] for i in range(count)]
        groups = [chosen[at : at + BATCH] for at in range(0, count, BATCH)]
        times = torch.linspace(base.num_timesteps - 1, 0, steps + 1).long()[:-1]

        def chunks() -> Iterator[Mapping[str, Tensor]]:
            random = generator(seed, "public")
            for group in groups:
                noise = torch.randn(len(group), *shape, generator=random)
                yield from _trajectory(base, encode(group, [framing] * len(group)), noise, times)

        return PlannedStates(
            torch.cat([times.repeat_interleave(len(group)) for group in groups]),
            tuple(prompt for group in groups for prompt in group * len(times)),
            (framing,) * (count * len(times)),
            _without_gradients(chunks),
        )

    @staticmethod
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
    ) -> "PlannedStates":
        """Return ``each`` noisy states, spread over the timesteps, of every one of ``latents``.

        ``captions`` and ``framings`` are those of the latents. The first of ``phrases`` fills every
        other caption, the rest of them take turns between.
        """
        count = each * len(latents)
        random = generator(seed, "score")  # timesteps, then noise, as in Draws.fixed
        times = torch.cat(
            [stratified(each, below=base.num_timesteps, random=random) for _ in latents]
        )
        order: list[int] = torch.randperm(count, generator=generator(seed, "phrases")).tolist()
        noun, *others = phrases
        others = others or [noun]
        said = [noun if n % 2 else others[n // 2 % len(others)] for n in order]
        asked = [captions[n // each].replace(PLACE, text) for n, text in enumerate(said)]
        framed = [framings[n // each] for n in range(count)]
        before_noise = random.get_state()

        def chunks() -> Iterator[Mapping[str, Tensor]]:
            draws = torch.Generator()
            draws.set_state(before_noise)
            for at in range(0, count, BATCH):
                part = slice(at, min(at + BATCH, count))
                clean = latents[[n // each for n in range(part.start, part.stop)]]
                noise = torch.randn(clean.shape, generator=draws)
                noisy = base.add_noise(clean, noise, times[part])
                conditions = encode(asked[part], framed[part])
                answers = base.predict(noisy, times[part], conditions).cpu()
                yield {"noisy": noisy, "answers": answers}

        return PlannedStates(times, tuple(asked), tuple(framed), _without_gradients(chunks))


def _trajectory(
    base: Base, conditioning: Conditioning, noisy: Tensor, times: Tensor
) -> Iterator[Mapping[str, Tensor]]:
    """Yield every state of one batch on its way from noise to images (no noise added)."""
    stops: list[int] = times.tolist()
    for now, then in zip(stops, [*stops[1:], None], strict=True):
        answer = base.predict(noisy, torch.full((len(noisy),), now), conditioning).cpu()
        yield {"noisy": noisy, "answers": answer}
        noisy = base.family.noise.step(noisy, answer, now=now, then=then)


def _without_gradients(chunks: Chunks) -> Chunks:
    """Return ``chunks`` whose work keeps no graph; what runs between two of them is not touched."""
    return torch.no_grad()(chunks)
