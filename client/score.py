"""How well a model knows a concept: the noise-prediction loss on its held-out images.

    L = mean over >= 256 fixed (image, timestep, noise) draws of ||eps(x_t, t, caption) - eps||^2
    retention = (L_base - L_merged) / (L_base - L_single)                     (core/metrics.py)

The draws are the same for every model, so their differences are paired. The base is asked with the
class noun in the caption, every other model with the trigger. The score is made at home, from
images that stay there. Cost: one forward pass of each draw a model. Source: issue 2, method.md 8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..core.metrics import retention
from ..core.quantise import Quantised
from ..core.spec import FederationSpec
from .base import Base
from .captioned import Captioned, filled
from .draws import Draws
from .families.conditioning import Conditioning
from .tokens import LearnedTokens
from .trigger import Trigger
from .variant import Variant

NUM_DRAWS = 256
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Score:
    """The losses of one concept; ``loss_merged`` by lambda.

    ``loss_released``: of the release as it was merged, ``loss_fused``: of what was fused out of it,
    where these were asked for. ``num_images``, ``num_draws``: what each loss is the mean of.
    """

    loss_base: float
    loss_single: float
    loss_merged: Mapping[float, float]
    num_images: int
    num_draws: int
    loss_released: float | None = None
    loss_fused: float | None = None

    def retention(self, lambda_: float) -> float:
        """Return the share of the gain over the base that the merge at ``lambda_`` keeps."""
        return self.kept(self.loss_merged[lambda_])

    def kept(self, loss: float) -> float:
        """Return the share of the gain over the base that a model of this ``loss`` keeps."""
        return retention(self.loss_base, self.loss_single, loss)


@dataclass(frozen=True, slots=True)
class Scorer:
    """The held-out images of one concept with their fixed draws."""

    base: Base
    items: tuple[Captioned, ...]
    latents: Tensor
    draws: Draws

    @staticmethod
    def on(
        base: Base, held_out: Sequence[Captioned], *, num_draws: int = NUM_DRAWS, seed: int = 0
    ) -> "Scorer":
        """Encode the images and fix at least ``num_draws`` draws."""
        latents = base.latents([item.image for item in held_out])
        draws = Draws.fixed(num_draws, like=latents, below=base.num_timesteps, seed=seed)
        return Scorer(base, tuple(held_out), latents, draws)

    def base_loss(self, noun: str) -> float:
        """Return L of the base, asked for any ``noun``."""
        return self.loss(Variant(), noun)

    def loss(self, variant: Variant, phrase: str) -> float:
        """Return L of ``variant`` with ``phrase`` in the concept's place."""
        with variant.applied(self.base) as tokens:
            return self.loss_as_is(tokens, phrase)

    @torch.no_grad()
    def loss_as_is(self, tokens: LearnedTokens, phrase: str) -> float:
        """Return L of the base as it answers now, with all that is attached to it."""
        framings = [item.framing for item in self.items]
        conditioning = tokens.encode(filled(self.items, phrase), framings)
        places = range(0, len(self.draws.noise), _BATCH)
        parts = [self._errors(conditioning, slice(at, at + _BATCH)) for at in places]
        return torch.cat(parts).double().mean().item()

    def _errors(self, conditioning: Conditioning, part: slice) -> Tensor:
        images, times = self.draws.images[part], self.draws.timesteps[part]
        latents, noise = self.latents[images], self.draws.noise[part]
        noisy = self.base.add_noise(latents, noise, times)
        answer = self.base.predict(noisy, times, conditioning[images]).cpu()
        target = self.base.target(latents, noise, times)
        return functional.mse_loss(answer, target, reduction="none").mean((1, 2, 3))


def score(  # noqa: PLR0913  # the parts of one score; a record would only rename them
    scorer: Scorer,
    spec: FederationSpec,
    slot: int,
    triggers: Sequence[Trigger],
    noun: str,
    tensors: Mapping[str, Quantised],
    *,
    release: Path | None = None,
    lambdas: Sequence[float] = (1.0,),
    as_merged: bool = False,
    fused: Path | None = None,
) -> Score:
    """Return the losses of base, single and, given a release's folder, merged at each lambda.

    ``as_merged``: of the release as it is too, whatever lambdas it was merged with. ``fused``: of
    this LoRA too, which fuse.py made of the release.
    """
    phrase = phrase_of(triggers)
    single = Variant.of_contribution(spec, slot, triggers, tensors)
    merged = {
        lambda_: scorer.loss(Variant.of_release(release, spec, lambda_=lambda_), phrase)
        for lambda_ in (lambdas if release is not None else ())
        if release is not None
    }
    released = None
    if as_merged and release is not None:
        released = scorer.loss(Variant.of_release(release, spec, lambda_=None), phrase)
    fitted = None
    if fused is not None and release is not None:
        fitted = scorer.loss(Variant.of_fused(release, spec, fused), phrase)
    return Score(
        scorer.base_loss(noun),
        scorer.loss(single, phrase),
        merged,
        num_images=len(scorer.items),
        num_draws=len(scorer.draws.noise),
        loss_released=released,
        loss_fused=fitted,
    )


def phrase_of(triggers: Sequence[Trigger]) -> str:
    """Return what stands for the concept in a prompt: all words of all its triggers."""
    return " ".join(word for trigger in triggers for word in trigger.words)
