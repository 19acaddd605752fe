"""What a training learns from, made once before its first step, with nothing attached to the base.

    batches    the owner's images and their copies as latents, in the order of all passes
    public     states on which to be silent (public_states.py), by the shape of their latents
    prior      class images, if they are asked for: drawn by the base, or the owner's own
    texts      text states that no step changes, where the spec leaves the text encoders alone

Everything comes out of the run's caches if it is there. Law: the material is a function of base,
images, noun and settings alone, so a resumed run has the same, from whatever cache.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from ..core.spec import FederationSpec
from .augment import augmented
from .base import Base
from .batches import Batches, Bucket
from .cache import Cache, key_of
from .caches import Caches
from .captions import PLACE, TEMPLATES
from .class_images import drawn_class_images
from .dataset import ConceptImages
from .encoded import encoded
from .planned_states import PlannedStates
from .public_states import PublicStates, public_prompts
from .text_states import TextStates
from .tokens import LearnedTokens
from .training_settings import TrainingSettings

_PRIOR_SEED = 2**63
"""Beyond every seed that a setting may have: the draws for class images are their own."""


@dataclass(frozen=True, slots=True)
class Material:
    """All that passes are made of."""

    batches: Batches
    public: Mapping[tuple[int, ...], PublicStates]
    prior: Batches | None
    texts: TextStates

    @staticmethod
    def made(
        base: Base,
        spec: FederationSpec,
        tokens: LearnedTokens,
        images: ConceptImages,
        noun: str,
        settings: TrainingSettings,
        caches: Caches,
    ) -> "Material":
        """Return the material of one run in the federation ``spec``."""
        told = (spec.base.fingerprint, *_held(base.vae), *_held(base.family.denoiser))
        buckets = encoded(
            base,
            augmented(images.train, settings),
            cache=caches.run,
            about=told,
            mask_floor=settings.mask_floor,
        )
        batches = _batches([_said(bucket, tokens.phrase) for bucket in buckets], base, settings)
        # Of each shape the images themselves come first, then their copies.
        counts = Counter(item.size for item in images.train)
        own = [_first(bucket, n) for bucket, n in zip(buckets, counts.values(), strict=True)]
        with tokens.attached():
            asked = _Asked(base, tokens, noun, settings)
            about = key_of(
                *("public", *told, spec.id, images.digest, noun, tokens.strangers),
                *(settings.jitters, settings.jitter_pixels, settings.jitter_colour),
                *(settings.flip, settings.seed),
                *(settings.null_images, settings.null_sampling_steps, settings.null_states),
            )
            captions = [item.caption for item in images.train]
            public = asked.states(own, captions, caches.run, about)
        prior = _prior(base, told, images, noun, settings, caches)
        with tokens.attached():
            texts = TextStates.made(
                base,
                spec,
                tokens,
                ["", *_prompts(public, batches, prior)],
                caches.run,
                about=(*told, noun, tokens.strangers, settings.seed),
                precision=settings.precision,
            )
        if not settings.keep_cache:
            caches.tidy()
        return Material(batches, public, prior, texts)


def _prompts(
    public: Mapping[tuple[int, ...], PublicStates], batches: Batches, prior: Batches | None
) -> list[str]:
    """Return every prompt that a pass may ask for, those of public states first."""
    of_images = [b for some in (prior, batches) if some is not None for b in some.buckets]
    return [
        *(prompt for states in public.values() for prompt in states.prompts),
        *(caption for bucket in of_images for caption in bucket.captions),
    ]


def _held(module: nn.Module) -> tuple[str, str]:
    """Return where a network is and in what type: both decide the last bits of its answers."""
    parameter = next(module.parameters())
    return parameter.device.type, str(parameter.dtype)


def _batches(
    buckets: Sequence[Bucket],
    base: Base,
    settings: TrainingSettings,
    *,
    of_the_class: bool = False,
) -> Batches:
    return Batches.of(
        buckets,
        passes=settings.steps * settings.accumulation,
        batch=settings.batch,
        num_timesteps=base.num_timesteps,
        seed=settings.seed + of_the_class * _PRIOR_SEED,
        caption_dropout=settings.caption_dropout * (not of_the_class),
        noise_offset=settings.noise_offset,
        keep_tags=settings.keep_tags if settings.shuffle_captions else None,
    )


def _said(bucket: Bucket, phrase: str) -> Bucket:
    captions = tuple(text.replace(PLACE, phrase) for text in bucket.captions)
    return replace(bucket, captions=captions)


def _first(bucket: Bucket, count: int) -> Bucket:
    return Bucket(bucket.latents[:count], bucket.captions[:count], bucket.framings[:count])


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the base is asked for, to be silent there."""

    base: Base
    tokens: LearnedTokens
    noun: str
    settings: TrainingSettings

    def states(
        self, own: Sequence[Bucket], captions: Sequence[str], cache: Cache, about: str
    ) -> dict[tuple[int, ...], PublicStates]:
        """Return the states by the shape of their latents; ``own`` are the owner's images."""
        found: dict[tuple[int, ...], PublicStates] = {}
        if not self.settings.null_weight:
            return found
        if self.settings.dp_epsilon:  # T22: these states have no noise, so nothing of the owner's
            return self._of_the_class(cache, about)
        prompts = public_prompts(captions, self.noun)
        total = sum(len(bucket.latents) for bucket in own)
        for number, bucket in enumerate(own):
            plans = self._plans(bucket, prompts, len(bucket.latents) / total, number)
            if plans:
                shape = tuple(bucket.latents.shape[1:])
                found[shape] = PublicStates.made(plans, cache, key_of("bucket", about, number))
        return found

    def _of_the_class(self, cache: Cache, about: str) -> dict[tuple[int, ...], PublicStates]:
        """Return states that the base draws of the class, asked for by the templates."""
        if not self.settings.null_images:
            return {}
        plan = PlannedStates.sampled(
            self.base,
            self.tokens.encode,
            public_prompts((), self.noun),
            count=self.settings.null_images,
            steps=self.settings.null_sampling_steps,
            seed=self.settings.seed,
        )
        made = PublicStates.made([plan], cache, key_of("of the class", about))
        return {tuple(self.base.latent_shape): made}

    def _plans(
        self, bucket: Bucket, prompts: Sequence[str], share: float, number: int
    ) -> list[PlannedStates]:
        settings, plans = self.settings, list[PlannedStates]()
        if settings.null_images:
            plan = PlannedStates.sampled(
                self.base,
                self.tokens.encode,
                prompts,
                shape=tuple(bucket.latents.shape[1:]),
                count=math.ceil(settings.null_images * share - 1e-9),
                steps=settings.null_sampling_steps,
                seed=settings.seed + 2 * number,
            )
            plans.append(plan)
        if settings.null_states:
            plan = PlannedStates.noised(
                self.base,
                self.tokens.encode,
                bucket.latents,
                bucket.captions,
                bucket.framings,
                phrases=(self.noun, *self.tokens.strangers),
                each=settings.null_states,
                seed=settings.seed + 2 * number + 1,
            )
            plans.append(plan)
        return plans


def _prior(
    base: Base,
    about: Sequence[str],
    images: ConceptImages,
    noun: str,
    settings: TrainingSettings,
    caches: Caches,
) -> Batches | None:
    """Return the passes over class images: the owner's own where there are some, else drawn."""
    if not settings.prior_weight:
        return None
    if images.of_the_class:
        own = encoded(base, images.of_the_class, cache=caches.run, about=about)
        buckets = [_said(bucket, noun) for bucket in own]
    else:
        drawn = drawn_class_images(
            base,
            [text.replace(PLACE, noun) for text in TEMPLATES],
            count=settings.prior_images,
            steps=settings.prior_steps,
            guidance=settings.prior_guidance,
            cache=caches.classes,
            about=about,
        )
        buckets = [drawn]
    return _batches(buckets, base, settings, of_the_class=True)
