# pyright: basic
# diffusers publishes partial types.
"""The discrete diffusion of Stable Diffusion 1, 2 and XL, for epsilon and v-prediction.

    x_t = sqrt(a_t) x + sqrt(1 - a_t) eps,    v = sqrt(a_t) eps - sqrt(1 - a_t) x

a_t is the cumulative alpha of the scheduler that the base's folder names. A step is DDIM's with
eta 0. Source: arXiv 2010.02502, 2202.00512.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import IntTensor, Tensor

from ...core.errors import SpecError
from ..objective import snr_weights

_KINDS = ("epsilon", "v_prediction")


@dataclass(frozen=True, slots=True)
class DiscreteNoise:
    """Keeps `Noise` with the schedule of ``schedule``."""

    schedule: DDPMScheduler

    @staticmethod
    def of(sampler: Any) -> "DiscreteNoise":  # noqa: ANN401  # any of diffusers' schedulers
        """Return the process that the betas of ``sampler`` describe.

        Raises SpecError: the base predicts something else than noise or velocity.
        """
        schedule = cast("DDPMScheduler", DDPMScheduler.from_config(sampler.config))
        kind = schedule.config["prediction_type"]
        if kind not in _KINDS:
            raise SpecError(
                f"the base predicts {kind!r}; epsilon and v_prediction are known here",
                why="the loss compares the model's answer with its target",
                fix="use a base model of one of the two kinds",
                code="unknown-prediction-type",
            )
        return DiscreteNoise(schedule)

    @property
    def num_timesteps(self) -> int:
        """Length of the schedule."""
        return int(self.schedule.config["num_train_timesteps"])

    def add(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return x_t."""
        return self.schedule.add_noise(latents, noise, cast("IntTensor", timesteps))

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return eps, or v of a velocity model."""
        if self._is_velocity:
            return self.schedule.get_velocity(latents, noise, cast("IntTensor", timesteps))
        return noise

    def weights(self, timesteps: Tensor, *, gamma: float) -> Tensor:
        """Return the min-SNR weights (objective.py)."""
        alphas = self.schedule.alphas_cumprod[timesteps]
        return snr_weights(alphas, gamma, velocity=self._is_velocity)

    def step(self, noisy: Tensor, answer: Tensor, *, now: int, then: int | None) -> Tensor:
        """Return x at ``then`` from x and the network's answer at ``now``."""
        alphas = self.schedule.alphas_cumprod
        clean, noise = self._clean_and_noise(noisy, answer, alphas[now])
        after = alphas[then] if then is not None else torch.tensor(1.0)
        return after.sqrt() * clean + (1 - after).sqrt() * noise

    @property
    def _is_velocity(self) -> bool:
        return self.schedule.config["prediction_type"] == "v_prediction"

    def _clean_and_noise(
        self, noisy: Tensor, answer: Tensor, alpha: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self._is_velocity:
            clean = alpha.sqrt() * noisy - (1 - alpha).sqrt() * answer
            return clean, alpha.sqrt() * answer + (1 - alpha).sqrt() * noisy
        return (noisy - (1 - alpha).sqrt() * answer) / alpha.sqrt(), answer
