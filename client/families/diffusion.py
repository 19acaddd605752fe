"""What training, scoring and sampling ask of a base model, whatever its family."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from .conditioning import Conditioning
from .framing import Framing
from .noise import Noise
from .text_tower import TextTower


class Diffusion(Protocol):
    """One loaded model: its text towers, its denoising network, its noise."""

    @property
    def towers(self) -> Mapping[str, TextTower]:
        """The text encoders by component name, sorted: their features' order in a probe."""
        ...

    @property
    def components(self) -> Mapping[str, nn.Module]:
        """Every network whose layers may be adapted, by the component name of layer paths."""
        ...

    @property
    def noise(self) -> Noise:
        """How latents are noised."""
        ...

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the square latents that the model was trained on."""
        ...

    @property
    def latent_step(self) -> int:
        """What the sides of a latent must be multiples of."""
        ...

    @property
    def denoiser(self) -> Any:  # noqa: ANN401  # diffusers' own network
        """The denoising network."""
        ...

    def condition(self, ids: Mapping[str, Tensor]) -> Conditioning:
        """Return the conditions of n prompts, as the family's own pipeline makes them.

        Without sizes: those come by `framed`, before `predict`.
        ``ids`` (n, length) for each tower. The features of a token stand at its own place in
        ``text``, the towers' side by side, as a probe reads them.
        """
        ...

    def framed(self, conditioning: Conditioning, framings: Sequence[Framing]) -> Conditioning:
        """Return ``conditioning`` with the sizes of n images, where the family asks for them."""
        ...

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the network's answer to n noisy latents."""
        ...

    def pipeline(self, vae: nn.Module, sampler: object) -> Any:  # noqa: ANN401  # diffusers' own
        """Return diffusers' pipeline of these parts."""
        ...

    def guided(self, positive: Conditioning, negative: Conditioning) -> dict[str, Tensor]:
        """Return both conditions as that pipeline's arguments."""
        ...
