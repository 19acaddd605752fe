"""More to train on from the same images: small shifts and, where asked, mirror images.

The images themselves come first, then for each further jitter all of them moved by a few pixels
with the border repeated, then all of that mirrored. Masks move with their images. Every one is
encoded once, before training, so augmenting costs nothing in a step.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from PIL import Image, ImageChops, ImageOps

from .dataset import Captioned
from .draws import generator
from .training_settings import TrainingSettings


def augmented(items: Sequence[Captioned], settings: TrainingSettings) -> list[Captioned]:
    """Return ``items``, their shifted copies and, with ``flip``, all of these mirrored."""
    random = generator(settings.seed, "jitter")
    reach = settings.jitter_pixels
    result = list(items)
    for _ in range(settings.jitters - 1):
        for item in items:
            x, y = torch.randint(-reach, reach + 1, (2,), generator=random).tolist()
            result.append(_with(item, lambda image, x=x, y=y: _shifted(image, x, y)))
    return result + [_with(item, ImageOps.mirror) for item in result] if settings.flip else result


def _with(item: Captioned, change: Callable[[Image.Image], Image.Image]) -> Captioned:
    mask = change(item.mask) if item.mask is not None else None
    return replace(item, image=change(item.image), mask=mask)


def _shifted(image: Image.Image, x: int, y: int) -> Image.Image:
    """Return ``image`` moved by (x, y) pixels, its border repeated, not wrapped round."""
    wide = ImageChops.offset(image, x, y)
    box = (max(x, 0), max(y, 0), image.width + min(x, 0), image.height + min(y, 0))
    return wide.crop(box).resize(image.size, Image.Resampling.BICUBIC)
