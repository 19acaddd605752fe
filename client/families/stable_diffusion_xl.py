# pyright: basic
# diffusers and transformers publish partial types.
"""Stable Diffusion XL: two text encoders, one pooled vector, and the image's sizes.

    text   = [layer before the last of text_encoder, the same of text_encoder_2], side by side
    pooled = text_projection(final_norm(last layer of text_encoder_2)) at the end-of-text token
    sizes  = original, crop corner, target (framing.py)

Neither half of the text is normed. The last layer of text_encoder feeds nothing: its A stays zero.
The pooled vector is read at the end token as the model was trained; transformers 5 with SDXL's
published config reads it at the largest id instead, which with added tokens is the trigger
(text_tower.py), so checkpoints say the right `eos_token_id`. Source: arXiv 2307.01952, section 2;
diffusers' StableDiffusionXLPipeline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ...core.errors import SpecError
from .conditioning import Conditioning
from .discrete_noise import DiscreteNoise
from .framing import Framing
from .parts import Parts
from .text_tower import TextTower

_NUM_SIZES = 6


@dataclass(frozen=True, slots=True)
class StableDiffusionXL:
    """Keeps `Diffusion` for two text encoders.

    ``zero_negative``: an empty negative prompt is all zeros (force_zeros_for_empty_prompt).
    """

    first: TextTower
    second: TextTower
    unet: UNet2DConditionModel
    noise: DiscreteNoise
    zero_negative: bool

    @staticmethod
    def load(parts: Parts) -> "StableDiffusionXL":
        """Return the model in a folder whose model_index.json names two text encoders.

        Raises SpecError: the UNet does not take what the encoders give.
        """
        first = TextTower(
            "text_encoder",
            parts.tokenizer("tokenizer", CLIPTokenizer),
            parts.module("text_encoder", CLIPTextModel),
        )
        second = TextTower(
            "text_encoder_2",
            parts.tokenizer("tokenizer_2", CLIPTokenizer),
            parts.module("text_encoder_2", CLIPTextModelWithProjection),
        )
        unet = parts.module("unet", UNet2DConditionModel)
        _check_sizes(unet, second)
        return StableDiffusionXL(
            first,
            second,
            unet,
            DiscreteNoise.of(parts.sampler()),
            bool(parts.settings.get("force_zeros_for_empty_prompt", True)),
        )

    @property
    def towers(self) -> Mapping[str, TextTower]:
        """CLIP-L, then OpenCLIP-G."""
        return {tower.name: tower for tower in (self.first, self.second)}

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """UNet and both text encoders."""
        models = {tower.name: tower.model for tower in (self.first, self.second)}
        return {**models, "unet": self.unet}

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width; 128 wide for 1024 pixels."""
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
        """Return text (n, length, sum of widths) and pooled; the sizes are still to come."""
        first = self.first.model(ids[self.first.name], output_hidden_states=True)
        second = self.second.model(ids[self.second.name], output_hidden_states=True)
        text = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        ends = self.second.ends(ids[self.second.name])
        last = second.last_hidden_state[torch.arange(len(ends), device=ends.device), ends]
        project: Any = self.second.model.text_projection
        return Conditioning(text, project(last))

    def framed(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        """Return ``conditioning`` with one row of six time ids an image."""
        # float32 whatever the text is: bfloat16 knows no size between 1,024 and 1,032.
        numbers = torch.tensor(
            [framing.numbers for framing in framings],
            dtype=torch.float32,
            device=conditioning.text.device,
        )
        return Conditioning(conditioning.text, conditioning.pooled, numbers)

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the UNet's answer."""
        added = {"text_embeds": conditioning.pooled, "time_ids": conditioning.time_ids}
        return self.unet(
            noisy, timesteps, conditioning.text, added_cond_kwargs=added, return_dict=False
        )[0]

    def pipeline(self, vae: nn.Module, sampler: object) -> Any:  # noqa: ANN401  # diffusers' own
        """Return a StableDiffusionXLPipeline without watermark."""
        from diffusers.pipelines.stable_diffusion_xl import (  # noqa: PLC0415  # slow; for pictures only
            pipeline_stable_diffusion_xl,
        )

        make: Any = pipeline_stable_diffusion_xl.StableDiffusionXLPipeline
        return make(
            vae=vae,
            text_encoder=self.first.model,
            text_encoder_2=self.second.model,
            tokenizer=self.first.tokenizer,
            tokenizer_2=self.second.tokenizer,
            unet=self.unet,
            scheduler=sampler,
            force_zeros_for_empty_prompt=self.zero_negative,
            add_watermarker=False,
        )

    def guided(self, positive: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return text and pooled of both sides; the pipeline makes the sizes itself."""
        pooled = _pooled(positive), _pooled(negative)
        none = self.zero_negative
        return {
            "prompt_embeds": positive.text,
            "pooled_prompt_embeds": pooled[0],
            "negative_prompt_embeds": torch.zeros_like(negative.text) if none else negative.text,
            "negative_pooled_prompt_embeds": torch.zeros_like(pooled[1]) if none else pooled[1],
        }


def _pooled(conditioning: Conditioning) -> Tensor:
    assert conditioning.pooled is not None, "made by this family"  # noqa: S101  # our own bug
    return conditioning.pooled


def _check_sizes(unet: UNet2DConditionModel, second: TextTower) -> None:
    """Check that the pooled vector and six sizes are what the UNet takes."""
    given = second.model.config.projection_dim or 0
    each = unet.config.get("addition_time_embed_dim") or 0
    taken = unet.config.get("projection_class_embeddings_input_dim") or 0
    if unet.config.get("addition_embed_type") != "text_time" or taken != given + _NUM_SIZES * each:
        raise SpecError(
            f"the UNet takes {taken} numbers beside the text, a pooled vector and six sizes are"
            f" {given + _NUM_SIZES * each}",
            why="it was trained with other conditions, as the refiner was",
            fix="use the base model of Stable Diffusion XL or a fine-tune of it",
            code="unknown-family",
        )
