"""Images as the trainer holds them: latents by shape, each with its caption, sizes and mask.

Cost: one pass through the VAE's encoder an image, once, or never where a cache has the latents. A
latent weighs 1/48 of its pixels' floats (SD: 4 channels at 1/8 of the side): a hundred at 1024 px
take 26 MB, ten thousand 2.6 GB, which a cache in files does not hold in memory.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .base import Base
from .batches import Bucket
from .cache import Cache, key_of
from .captioned import Captioned

_BATCH = 16


def encoded(
    base: Base,
    items: Sequence[Captioned],
    *,
    cache: Cache,
    about: Sequence[object],
    mask_floor: float = 0.0,
) -> list[Bucket]:
    """Return one bucket for each image size, in the order of first sight.

    Captions stay as they are, ``{}`` in them. Where an image of a bucket has a mask, the bucket
    has masks: ``mask_floor`` plus the rest where the mask is white, averaged over each latent's
    pixels. ``about`` names the base for the cache's key.
    """
    by_size: dict[tuple[int, int], list[Captioned]] = {}
    for item in items:
        by_size.setdefault(item.size, []).append(item)
    return [
        _bucket(base, some, cache=cache, about=about, mask_floor=mask_floor)
        for some in by_size.values()
    ]


def _bucket(
    base: Base,
    items: Sequence[Captioned],
    *,
    cache: Cache,
    about: Sequence[object],
    mask_floor: float,
) -> Bucket:
    masked = any(item.mask_sha256 for item in items)

    def chunks() -> Iterator[Mapping[str, Tensor]]:
        for at in range(0, len(items), _BATCH):
            some = items[at : at + _BATCH]
            latents = base.latents([item.image for item in some])
            if not masked:
                yield {"latents": latents}
                continue
            shape = (int(latents.shape[3]), int(latents.shape[2]))
            masks = torch.stack([_mask(item.mask, shape, mask_floor) for item in some])
            yield {"latents": latents, "masks": masks}

    floor = mask_floor if masked else None
    key = key_of("latents", *about, floor, [item.digest.hex() for item in items])
    rows = cache.rows(key, len(items), chunks)
    return Bucket(
        rows["latents"],
        tuple(item.caption for item in items),
        tuple(item.framing for item in items),
        rows.get("masks"),
    )


def _mask(mask: Image.Image | None, shape: tuple[int, int], floor: float) -> Tensor:
    """Return a (1, h, w) tensor of weights from floor to 1. ``shape`` is (width, height)."""
    if mask is None:
        return torch.ones(1, shape[1], shape[0])
    small = np.asarray(mask.resize(shape, Image.Resampling.BOX), np.float32) / 255
    return torch.from_numpy(floor + (1 - floor) * small).unsqueeze(0)
