"""What one forward pass of a training computes: the losses of its images, in float32.

    concept   on the owner's images         (objective.py)
    null      on public states              (public_states.py)
    prior     on class images               (class_images.py)

The first two share a pass, unless there is differential privacy: the owner's images go alone, so
that each of them can have a gradient of its own (per_image.py). Which rows a pass takes follows
from its number and the seed. Left to others: what is attached, gradients, the optimiser.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .base import Base
from .batches import Batch
from .draws import batch_at
from .families.conditioning import Conditioning
from .families.framing import Framing
from .material import Material
from .objective import image_losses
from .placement import PASSES
from .public_states import PublicStates
from .training_settings import TrainingSettings

Encode = Callable[[Sequence[str], Sequence[Framing]], Conditioning]


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes of one run."""

    base: Base
    settings: TrainingSettings
    material: Material

    def concept_and_null(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the concept's loss and the null-response term of pass ``number``."""
        batch = self.material.batches.at(number)
        noisy = self.base.add_noise(batch.latents, batch.noise, batch.timesteps)
        times, count = batch.timesteps, len(batch.latents)
        prompts, framings = batch.captions, batch.framings
        public = self.material.public.get(tuple(batch.latents.shape[1:]))
        chosen: list[int] = []
        if public is not None:
            chosen = self._chosen(public, number)
            noisy = torch.cat([noisy, public.noisy[chosen]])
            times = torch.cat([times, public.timesteps[chosen]])
            prompts = [*prompts, *(public.prompts[i] for i in chosen)]
            framings = [*framings, *(public.framings[i] for i in chosen)]
        answer = self._answer(noisy, times, prompts, framings)
        concept = self._errors(answer[:count], batch).mean()
        if public is None:
            return concept, torch.zeros_like(concept)
        base_answers = public.answers[chosen].to(answer.device)
        return concept, functional.mse_loss(answer[count:], base_answers)

    def null(self, number: int) -> Tensor | None:
        """Return the null-response term of pass ``number`` alone; None where there is none."""
        public = self.material.public.get(tuple(self.base.latent_shape))
        if public is None:
            return None
        chosen = self._chosen(public, number)
        prompts, framings = (
            [public.prompts[i] for i in chosen],
            [public.framings[i] for i in chosen],
        )
        answer = self._answer(public.noisy[chosen], public.timesteps[chosen], prompts, framings)
        return functional.mse_loss(answer, public.answers[chosen].to(answer.device))

    def prior(self, number: int) -> Tensor | None:
        """Return the loss on images of the class, asked for by the noun; None without them."""
        if self.material.prior is None:
            return None
        return self.image_losses(self.material.prior.at(number)).mean()

    def image_losses(self, batch: Batch, encode: Encode | None = None) -> Tensor:
        """Return the loss of each image of ``batch``; its prompts go through ``encode``, if given.

        Shapes: (n,).
        """
        noisy = self.base.add_noise(batch.latents, batch.noise, batch.timesteps)
        answer = self._answer(noisy, batch.timesteps, batch.captions, batch.framings, encode)
        return self._errors(answer, batch)

    def _chosen(self, public: PublicStates, number: int) -> list[int]:
        settings = self.settings
        return batch_at(
            number, seed=settings.seed + 1, count=len(public.noisy), batch=settings.null_batch
        )

    def _answer(
        self,
        noisy: Tensor,
        times: Tensor,
        prompts: Sequence[str],
        framings: Sequence[Framing],
        encode: Encode | None = None,
    ) -> Tensor:
        """Return the adapted network's answer, in float32 on the base's device."""
        encode = encode or self.material.texts.encode
        with self.base.autocast(PASSES[self.settings.precision]):
            return self.base.predict(noisy, times, encode(prompts, framings))

    def _errors(self, answer: Tensor, batch: Batch) -> Tensor:
        """Return the weighted error of the answer to each image of one batch."""
        gamma, place = self.settings.min_snr_gamma, answer.device
        target = self.base.target(batch.latents, batch.noise, batch.timesteps)
        weights = self.base.family.noise.weights(batch.timesteps, gamma=gamma)
        return image_losses(
            answer,
            target.to(place),
            weights=weights.to(place),
            masks=None if batch.masks is None else batch.masks.to(place),
        )
