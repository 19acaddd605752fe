"""The images of one concept: read once, each in its bucket, with a caption, split for the score.

A folder holds images and, beside each, an optional caption (captions.py) and an optional mask
(image_files.py). The last images in name order are held out: never trained on, only scored, as
centre squares so that one figure compares them. Nothing here leaves.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .buckets import bucket_size, covered
from .captions import PLACE, caption_of
from .duplicates import near_duplicates
from .image_files import image_paths, read_image, read_mask


@dataclass(frozen=True, slots=True)
class Captioned:
    """One upright RGB image and its caption, in which ``{}`` stands for the concept."""

    name: str
    image: Image.Image
    caption: str
    mask: Image.Image | None = None  # grey, of the image's size


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
        """Read ``folder``. Units: ``size`` and ``step`` in pixels; 0 makes every image a square.

        ``held_out`` images, at most a quarter. Raises InputError: no such folder, no images,
        fewer than five, a broken, tiny or huge one, a bad mask or caption.
        """
        paths = image_paths(folder)
        kept_back = max(1, min(held_out, len(paths) // 4))
        first_held_out = len(paths) - kept_back
        items: list[Captioned] = []
        for number, path in enumerate(paths):
            image = read_image(path, least_side=size // 2)
            mask = read_mask(path, image)
            square = not step or number >= first_held_out
            shape = (size, size) if square else bucket_size(*image.size, side=size, step=step)
            caption = caption_of(path, noun, triggers=triggers, number=number)
            cut = covered(mask, shape) if mask is not None else None
            items.append(Captioned(path.name, covered(image, shape), caption, cut))
        near = near_duplicates([(item.name, item.image) for item in items])
        return ConceptImages(
            tuple(items[:first_held_out]), tuple(items[first_held_out:]), tuple(near)
        )

    @property
    def digest(self) -> str:
        """SHA-256 over pixels and captions: a saved training belongs to these very images."""
        total = hashlib.sha256()
        for item in (*self.train, *self.held_out):
            parts = (_pixels(item.image), _pixels(item.mask), item.caption.encode())
            for part in parts:
                total.update(hashlib.sha256(part).digest())
        return total.hexdigest()


def filled(items: Iterable[Captioned], phrase: str) -> list[str]:
    """Return the captions with ``phrase`` in the concept's place."""
    return [item.caption.replace(PLACE, phrase) for item in items]


def _pixels(image: Image.Image | None) -> bytes:
    return b"" if image is None else repr(image.size).encode() + image.tobytes()
