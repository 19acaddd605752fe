"""The images of one concept: read once, each in its bucket, with a caption, split for the score.

A folder holds images and, beside each, an optional caption (captions.py) and an optional mask
(image_files.py). The last images in name order are held out: never trained on, only scored, as
centre squares so that one figure compares them. Pixels are looked at once, to check and to name
them by their hash, and read again when they are encoded (captioned.py). Nothing here leaves.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .buckets import bucket_size
from .captioned import Captioned, pixels_sha256
from .captions import caption_of
from .cut import Cut
from .duplicates import near_duplicates, thumbnail
from .image_files import image_paths, read_image, read_mask


@dataclass(frozen=True, slots=True)
class ConceptImages:
    """The images to train on and the held-out ones."""

    train: tuple[Captioned, ...]
    held_out: tuple[Captioned, ...]
    duplicates: tuple[tuple[str, str], ...] = ()  # names of images that are nearly the same

    @staticmethod
    def load(
        folder: Path,
        *,
        size: int,
        noun: str,
        triggers: Sequence[str] = (),
        step: int = 0,
        held_out: int = 4,
    ) -> "ConceptImages":
        """Read and check ``folder``; of each image its description stays, not its pixels.

        Units: ``size`` and ``step`` in pixels; 0 makes every image a square. ``held_out`` images,
        at most a quarter. Raises InputError: no such folder, no images, fewer than five, a broken,
        tiny or huge one, a bad mask or caption.
        """
        paths = image_paths(folder)
        kept_back = max(1, min(held_out, len(paths) // 4))
        first_held_out = len(paths) - kept_back
        items, thumbnails = list[Captioned](), []
        for number, path in enumerate(paths):
            image = read_image(path, least_side=size // 2)
            mask = read_mask(path, image.size)
            square = not step or number >= first_held_out
            shape = (size, size) if square else bucket_size(*image.size, side=size, step=step)
            cut = Cut(image.size, shape)
            covered = cut.covered(image)
            item = Captioned(
                path,
                cut,
                caption_of(path, noun, triggers=triggers, number=number),
                pixels_sha256(covered),
                pixels_sha256(cut.covered(mask)) if mask is not None else "",
            )
            items.append(item)
            thumbnails.append((path.name, thumbnail(covered)))
        return ConceptImages(
            tuple(items[:first_held_out]),
            tuple(items[first_held_out:]),
            tuple(near_duplicates(thumbnails)),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over pixels, cuts and captions: a saved training belongs to these very images."""
        total = hashlib.sha256()
        for item in (*self.train, *self.held_out):
            for part in (item.digest, item.caption.encode()):
                total.update(hashlib.sha256(part).digest())
        return total.hexdigest()
