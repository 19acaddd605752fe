"""Every random number of training and scoring, as a function of (seed, purpose, step).

    generator(seed, purpose, step) = a fresh generator seeded by SHA-256 of the three

No generator lives longer than a step, so there is no generator state to save, and a resumed run
cannot draw other numbers than an uninterrupted one (reliability.md 5): the step number is the
whole state. No global generator is read or set. `order` does the same for the sampler.

Source of the stratified timesteps: every stratum of [0, T) is hit equally often, which takes most
of the variance out of a loss that falls by orders of magnitude along t.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """Return the generator of one purpose at one step."""
    digest = hashlib.sha256(f"orthofed/draws/{seed}/{purpose}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def batch_at(step: int, *, seed: int, count: int, batch: int) -> list[int]:
    """Return the indices of step ``step``: every epoch shows each of ``count`` items once."""
    orders: dict[int, list[int]] = {}
    chosen = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, index = divmod(place, count)
        if epoch not in orders:
            orders[epoch] = torch.randperm(
                count, generator=generator(seed, "order", epoch)
            ).tolist()
        chosen.append(orders[epoch][index])
    return chosen


def stratified(count: int, *, below: int, random: torch.Generator) -> Tensor:
    """Return ``count`` integers in [0, below), one from each of ``count`` equal strata, rising."""
    places = torch.arange(count) + torch.rand(count, generator=random)
    return (places * (below / count)).long().clamp(max=below - 1)


@dataclass(frozen=True, slots=True)
class Draws:
    """Fixed (image, timestep, noise) triples, the same for every model that is compared."""

    images: Tensor  # (n,) index of the held-out image
    timesteps: Tensor  # (n,)
    noise: Tensor  # (n, channels, side, side)

    @staticmethod
    def fixed(count: int, *, like: Tensor, below: int, seed: int) -> "Draws":
        """Return at least ``count`` draws, equally many for each latent of ``like``.

        Each image gets its own strata of [0, below), so no image is judged at easy steps only.
        """
        num_images = len(like)
        each = -(-count // num_images)
        random = generator(seed, "score")
        timesteps = [stratified(each, below=below, random=random) for _ in range(num_images)]
        noise = torch.randn(num_images * each, *like.shape[1:], generator=random)
        return Draws(torch.arange(num_images).repeat_interleave(each), torch.cat(timesteps), noise)
