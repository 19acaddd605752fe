"""How a family noises latents and what its network answers: the seam for flow matching.

The loss, the draws and the public states know timesteps 0 .. num_timesteps - 1 and nothing else.
"""

from typing import Protocol

from torch import Tensor


class Noise(Protocol):
    """A noise process with integer timesteps; 0 is the least noise."""

    @property
    def num_timesteps(self) -> int:
        """Length of the schedule."""
        ...

    def add(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the latents as they are at ``timesteps`` (n,)."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network should answer there."""
        ...

    def weights(self, timesteps: Tensor, *, gamma: float) -> Tensor:
        """Return the weight of each timestep's error (n,); ones for ``gamma`` 0."""
        ...

    def step(self, noisy: Tensor, answer: Tensor, *, now: int, then: int | None) -> Tensor:
        """Return the latents at ``then`` (None: clean) that ``answer`` at ``now`` leads to."""
        ...
