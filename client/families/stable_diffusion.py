# pyright: basic
# diffusers and transformers publish partial types.
"""Stable Diffusion 1.x and 2.x: one text encoder, its last layer, epsilon or velocity.

    text = final_norm(last layer of text_encoder),    no pooled vector, no sizes

2.x differs in widths and in `prediction_type` alone: its OpenCLIP text encoder speaks through its
penultimate layer, and the published folder has left the last one out (23 of 24 layers), so here as
there the last layer of the file is read. Source: diffusers' StableDiffusionPipeline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .conditioning import Conditioning
from .discrete_noise import DiscreteNoise
from .framing import Framing
from .parts import Parts
from .text_tower import TextTower


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """Keeps `Diffusion` for one text encoder."""

    tower: TextTower
    unet: UNet2DConditionModel
    noise: DiscreteNoise

    @staticmethod
    def load(parts: Parts) -> "StableDiffusion":
        """Return the model in a folder whose model_index.json names one text encoder."""
        return StableDiffusion(
            TextTower(
                "text_encoder",
                parts.tokenizer("tokenizer", CLIPTokenizer),
                parts.module("text_encoder", CLIPTextModel),
            ),
            parts.module("unet", UNet2DConditionModel),
            DiscreteNoise.of(parts.sampler()),
        )

    @property
    def towers(self) -> Mapping[str, TextTower]:
        """The one text encoder."""
        return {self.tower.name: self.tower}

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """UNet and text encoder."""
        return {"text_encoder": self.tower.model, "unet": self.unet}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width; 64 wide for 512 pixels, 96 for 768."""
        side = int(self.unet.config["sample_size"])
        return int(self.unet.config["in_channels"]), side, side

    @property
    def latent_step(self) -> int:
        """Twice as much for every level below the first."""
        return 2 ** (len(self.unet.config["block_out_channels"]) - 1)

    @property
    def denoiser(self) -> UNet2DConditionModel:
        """The UNet."""
        return self.unet

    def condition(self, ids: Mapping[str, Tensor]) -> Conditioning:
        """Return the encoder's normed last layer: (n, length, width)."""
        return Conditioning(self.tower.model(ids[self.tower.name])[0])

    def framed(
        self,
        conditioning: Conditioning,
        framings: Sequence[Framing],  # noqa: ARG002  # the seam's; this family asks for no sizes
    ) -> Conditioning:
        """Return ``conditioning`` as it is."""
        return conditioning

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the UNet's answer."""
        return self.unet(noisy, timesteps, conditioning.text, return_dict=False)[0]

    def pipeline(self, vae: nn.Module, sampler: object) -> Any:  # noqa: ANN401  # diffusers' own
        """Return a StableDiffusionPipeline without safety checker."""
        from diffusers.pipelines.stable_diffusion import (  # noqa: PLC0415  # slow; for pictures only
            pipeline_stable_diffusion,
        )

        make: Any = pipeline_stable_diffusion.StableDiffusionPipeline  # its own types forbid None
        return make(
            vae=vae,
            text_encoder=self.tower.model,
            tokenizer=self.tower.tokenizer,
            unet=self.unet,
            scheduler=sampler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def guided(self, positive: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return the text features of both sides."""
        return {"prompt_embeds": positive.text, "negative_prompt_embeds": negative.text}
