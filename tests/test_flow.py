"""The seam bears flow matching: a small transformer-like model of another family is trained.

`Flow` is the fake of `Diffusion` and `Noise`: x_t = (1 - s) x + s noise, the network answers
noise - x, attention and UNet are absent. Nothing in training, scoring or public states knows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orthofed.client.families.conditioning import Conditioning
from orthofed.client.families.framing import Framing
from orthofed.client.families.noise import Noise
from orthofed.client.families.text_tower import TextTower
from orthofed.client.packing import packed
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.layer import Layer

from .tiny_concept import NOUN, Bench, bench, with_layers

if TYPE_CHECKING:
    from orthofed.client.families.diffusion import Diffusion


@dataclass(frozen=True, slots=True)
class Straight:
    """Keeps `Noise` on a straight line from the image to the noise."""

    num_timesteps: int = 1000

    def add(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        s = ((timesteps + 1) / self.num_timesteps).view(-1, 1, 1, 1)
        return (1 - s) * latents + s * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        del timesteps
        return noise - latents

    def weights(self, timesteps: Tensor, *, gamma: float) -> Tensor:
        del gamma
        return torch.ones(len(timesteps))

    def step(self, noisy: Tensor, answer: Tensor, *, now: int, then: int | None) -> Tensor:
        after = 0 if then is None else then + 1
        return noisy + answer * (after - now - 1) / self.num_timesteps


class Mixer(nn.Module):
    """Answers from each latent position and the mean of the text."""

    def __init__(self, text: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(4, 16)
        self.to_k = nn.Linear(text, 16)
        self.to_out = nn.Linear(16, 4)

    def forward(self, noisy: Tensor, text: Tensor) -> Tensor:
        told = self.to_k(text.mean(1))[:, None, None]
        mixed = torch.tanh(self.to_q(noisy.permute(0, 2, 3, 1)) + told)
        return self.to_out(mixed).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class Flow:
    """Keeps `Diffusion`: a transformer where a UNet was."""

    tower: TextTower
    transformer: Mixer
    noise: Noise = Straight()
    latent_shape: tuple[int, int, int] = (4, 8, 8)

    @property
    def towers(self) -> Mapping[str, TextTower]:
        return {"text_encoder": self.tower}

    @property
    def components(self) -> Mapping[str, nn.Module]:
        return {"text_encoder": self.tower.model, "transformer": self.transformer}

    @property
    def latent_step(self) -> int:
        return 1

    @property
    def denoiser(self) -> nn.Module:
        return self.transformer

    def condition(self, ids: Mapping[str, Tensor]) -> Conditioning:
        return Conditioning(self.tower.model(ids["text_encoder"])[0])

    def framed(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        del framings
        return conditioning

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        del timesteps
        return self.transformer(noisy, conditioning.text)

    def pipeline(self, vae: nn.Module, sampler: object) -> object:
        raise NotImplementedError

    def guided(self, positive: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        raise NotImplementedError


@pytest.fixture
def tiny(tmp_path: Path) -> Bench:
    found = bench(tmp_path)
    torch.manual_seed(0)
    network = Mixer(48).requires_grad_(requires_grad=False)
    family: Diffusion = Flow(found.base.towers["text_encoder"], network)
    layers = [
        Layer("transformer.to_k", out=16, width=48),
        Layer("text_encoder.text_model.encoder.layers.1.self_attn.out_proj", out=48, width=48),
    ]
    return replace(
        found, base=replace(found.base, family=family), spec=with_layers(found.spec, *layers)
    )


def test_a_flow_matching_model_is_taught_like_any_other(tiny: Bench) -> None:
    """From train to quantised tensors to the score, with public states on straight lines."""
    trained = tiny.train(steps=40)
    scorer = Scorer.on(tiny.base, tiny.images.held_out, num_draws=32)
    triggers = [Trigger("anna-k7")]

    single = Variant.of_contribution(tiny.spec, 0, triggers, packed(trained, tiny.spec))

    assert set(trained.a) == {layer.path for layer in tiny.spec.layers}
    assert all(np.abs(a).max() > 0 for a in trained.a.values())
    assert scorer.loss(single, phrase_of(triggers)) < scorer.base_loss(NOUN)


def test_a_straight_line_is_walked_back_in_one_step() -> None:
    """With the true answer every step lands on the line."""
    noise, clean = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 3.0)
    process, at = Straight(), torch.tensor([599])

    noisy, answer = process.add(clean, noise, at), process.target(clean, noise, at)

    assert process.step(noisy, answer, now=599, then=None).item() == pytest.approx(3.0)
    wanted = process.add(clean, noise, torch.tensor([199])).item()
    assert process.step(noisy, answer, now=599, then=199).item() == pytest.approx(wanted)
