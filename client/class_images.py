"""Images of the class that the base draws itself, to be trained on beside the concept's.

    prior term = mean w(t) ||eps(x_t, t, "a picture of <noun>") - noise||^2,   x drawn by the base

So the class keeps its looks while one member of it is learnt (prior preservation, arXiv 2208.12242,
section 3.2). The prompts are the templates with the noun: nothing of the owner's goes into the
pictures, and concepts of one base and noun share them. They are kept as latents, as the sampler
leaves them. Laws: image k is a function of base, prompts, steps, guidance and k, drawn in groups of
four, so a longer list begins with the shorter one and a kill costs one group. With two forward
passes a step and image they are the dearest thing before a training.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from .base import Base, quiet
from .batches import Bucket
from .cache import Cache, key_of
from .draws import generator
from .families.framing import Framing
from .tokens import LearnedTokens

GROUP = 4
_SEED = 0  # of all federations: the same class images for every concept


def drawn_class_images(
    base: Base,
    prompts: Sequence[str],
    *,
    count: int,
    steps: int,
    guidance: float,
    cache: Cache,
    about: Sequence[object],
) -> Bucket:
    """Return ``count`` square images of the base's own size, image k for prompt k in turn.

    Nothing may be attached to the base. ``about`` names it for the cache's key.
    """
    tokens = LearnedTokens.of(base, {})
    said = [prompts[k % len(prompts)] for k in range(-(-count // GROUP) * GROUP)]
    groups = []
    for first in range(0, count, GROUP):
        chosen = said[first : first + GROUP]

        def chunks(first: int = first, chosen: Sequence[str] = chosen) -> Iterator[_Latents]:
            yield {"latents": _drawn(base, tokens, chosen, first, steps, guidance)}

        key = key_of("class", *about, chosen, first, steps, guidance)
        groups.append(cache.rows(key, GROUP, chunks)["latents"])
    framing = Framing.whole(base.image_size)
    return Bucket(torch.cat(groups)[:count], tuple(said[:count]), (framing,) * count)


_Latents = Mapping[str, Tensor]


@torch.no_grad()
def _drawn(
    base: Base,
    tokens: LearnedTokens,
    prompts: Sequence[str],
    first: int,
    steps: int,
    guidance: float,
) -> Tensor:
    """Return the scaled latents of one group, drawn by the base's own pipeline and sampler."""
    quiet()
    shape = base.latent_shape
    randoms = [generator(_SEED, "class", first + k) for k in range(len(prompts))]
    noise = torch.stack([torch.randn(shape, generator=random) for random in randoms])
    positive, negative = tokens.encode(prompts), tokens.encode([""] * len(prompts))
    sampler = generator(_SEED, "class-sampler", first)  # of samplers that add noise on the way
    with base.autocast():
        latents: Tensor = base.pipeline()(
            **base.family.guided(positive, negative),
            latents=noise.to(base.device),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=sampler,
            output_type="latent",
        ).images
    return latents.float().cpu()
