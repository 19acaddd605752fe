"""Images as the trainer holds them: latents by shape, each with its caption and mask.

Cost: one pass through the VAE's encoder an image. A latent weighs 1/48 of its pixels' floats (SD:
4 channels at 1/8 of the side), so all of them stay in memory: a hundred at 1024 px take 26 MB.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .base import Base
from .batches import Bucket
from .captioned import Captioned, filled


def encoded(
    base: Base, items: Sequence[Captioned], *, phrase: str, mask_floor: float = 0.0
) -> list[Bucket]:
    """Return one bucket for each image size, in the order of first sight.

    ``phrase`` fills the captions; where an image of a bucket has a mask, the bucket has masks:
    ``mask_floor`` plus the rest where the mask is white, averaged over each latent's pixels.
    """
    by_size: dict[tuple[int, int], list[Captioned]] = {}
    for item in items:
        by_size.setdefault(item.size, []).append(item)
    buckets = []
    for some in by_size.values():
        latents = base.latents([item.image for item in some])
        shape = (int(latents.shape[3]), int(latents.shape[2]))
        masked = any(item.mask_sha256 for item in some)
        masks = torch.stack([_mask(i.mask, shape, mask_floor) for i in some]) if masked else None
        framings = tuple(item.framing for item in some)
        buckets.append(Bucket(latents, tuple(filled(some, phrase)), framings, masks))
    return buckets


def _mask(mask: Image.Image | None, shape: tuple[int, int], floor: float) -> Tensor:
    """Return a (1, h, w) tensor of weights from floor to 1. ``shape`` is (width, height)."""
    if mask is None:
        return torch.ones(1, shape[1], shape[0])
    small = np.asarray(mask.resize(shape, Image.Resampling.BOX), np.float32) / 255
    return torch.from_numpy(floor + (1 - floor) * small).unsqueeze(0)
