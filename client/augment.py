"""More to train on from the same images: small shifts and, where asked, mirror images.

The images themselves come first, then for each further jitter all of them moved by a few pixels,
then all of that mirrored. Masks and sizes follow their images (cut.py). Every copy is encoded once,
before training, so augmenting costs nothing in a step.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from .captioned import Captioned
from .draws import generator
from .training_settings import TrainingSettings


def augmented(items: Sequence[Captioned], settings: TrainingSettings) -> list[Captioned]:
    """Return ``items``, their shifted copies and, with ``flip``, all of these mirrored."""
    random = generator(settings.seed, "jitter")
    reach = settings.jitter_pixels
    result = list(items)
    for _ in range(settings.jitters - 1):
        for item in items:
            most = min(item.size) // 4  # of a small image something has to stay
            drawn = torch.randint(-reach, reach + 1, (2,), generator=random)
            x, y = drawn.clamp(-most, most).tolist()
            result.append(replace(item, cut=replace(item.cut, shift=(x, y))))
    if settings.flip:
        result += [replace(item, cut=replace(item.cut, mirrored=True)) for item in result]
    return result
