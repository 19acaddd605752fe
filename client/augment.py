"""More to train on from the same images: small shifts, shades, mirror images.

The images themselves come first, then for each further jitter all of them moved by a few pixels
and, where asked, a little lighter or darker; then all of that mirrored. Masks and sizes follow
their images (cut.py). Every copy is encoded once, before training, so it costs nothing in a step.
Law: an image's copies follow from it and the seed alone, not from what else lies in the folder (so
one image more changes nothing of the others, which differential privacy needs).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from .captioned import Captioned
from .draws import generator
from .training_settings import TrainingSettings


def augmented(items: Sequence[Captioned], settings: TrainingSettings) -> list[Captioned]:
    """Return ``items``, their shifted copies and, with ``flip``, all of these mirrored."""
    numbers = [int.from_bytes(item.digest[:7], "little") for item in items]
    shifts = [generator(settings.seed, "jitter", number) for number in numbers]
    tints = [generator(settings.seed, "colour", number) for number in numbers]
    reach = settings.jitter_pixels
    result = list(items)
    for _ in range(settings.jitters - 1):
        for item, random, tint in zip(items, shifts, tints, strict=True):
            most = min(item.size) // 4  # of a small image something has to stay
            drawn = torch.randint(-reach, reach + 1, (2,), generator=random)
            x, y = drawn.clamp(-most, most).tolist()
            copy = replace(item, cut=replace(item.cut, shift=(x, y)))
            if settings.jitter_colour:
                change = 2 * torch.rand(3, generator=tint) - 1
                light, contrast, depth = (1 + settings.jitter_colour * change).tolist()
                copy = replace(copy, colour=(light, contrast, depth))
            result.append(copy)
    if settings.flip:
        result += [replace(item, cut=replace(item.cut, mirrored=True)) for item in result]
    return result
