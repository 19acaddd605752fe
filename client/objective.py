"""What a training step makes small: the weighted error of the model's answer.

    concept   mean over images of w(t) x mean over the latent of m ||answer - target||^2 / mean(m)
    w(t)      1, or min-SNR (arXiv 2303.09556, section 3.4):
              min(snr, gamma) / snr for a model of the noise, min(snr, gamma) / (snr + 1) for one
              of the velocity; snr = alpha / (1 - alpha)
    m         1, or the image's mask, at least mask_floor

Pure arithmetic on tensors. The null-response term has equal weights: it compares two models.
"""

import torch
from torch import Tensor


def snr_weights(alpha: Tensor, gamma: float, *, velocity: bool) -> Tensor:
    """Return w(t) for the cumulative ``alpha`` of each image's timestep. Shapes: (n,) -> (n,).

    ``gamma`` 0 gives ones.

    >>> snr_weights(torch.tensor([0.75, 0.5]), 1.5, velocity=False).tolist()
    [0.5, 1.0]
    """
    if not gamma:
        return torch.ones_like(alpha)
    snr = alpha / (1 - alpha).clamp(min=1e-8)
    capped = snr.clamp(max=gamma)
    return capped / (snr + 1) if velocity else capped / snr.clamp(min=1e-8)


def image_losses(
    answer: Tensor, target: Tensor, *, weights: Tensor, masks: Tensor | None = None
) -> Tensor:
    """Return the weighted mean square error of each image; the concept's loss is their mean.

    Shapes: (n,); answer and target (n, channels, h, w), weights (n,), masks (n, 1, h, w).
    """
    error = (answer.float() - target.float()).square()
    if masks is not None:
        error = error * (masks / masks.mean((1, 2, 3), keepdim=True).clamp(min=1e-6))
    return weights * error.mean((1, 2, 3))
