"""The images of one concept: read once, each in its bucket, with a caption, split for the score.

A folder holds images and, beside each, an optional caption (captions.py) and an optional mask
(image_files.py). The last images in name order are held out: never trained on, only scored, as
centre squares so that one figure compares them. Pixels are looked at once, to check and to name
them by their hash, and read again when they are encoded (captioned.py). Nothing here leaves.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from PIL import Image

from ..core.errors import InputError
from .buckets import bucket_size
from .captioned import Captioned, pixels_sha256
from .captions import TEMPLATES, caption_of
from .cut import Cut
from .duplicates import near_duplicates, thumbnail
from .image_files import image_paths, read_image, read_mask


@dataclass(frozen=True, slots=True)
class ConceptImages:
    """The images to train on and the held-out ones."""

    train: tuple[Captioned, ...]
    held_out: tuple[Captioned, ...]
    duplicates: tuple[tuple[str, str], ...] = ()  # names of images that are nearly the same
    of_the_class: tuple[Captioned, ...] = ()  # the owner's own class images, to preserve the prior

    @staticmethod
    def load(  # noqa: PLR0913  # what is read of a folder, and how
        folder: Path,
        *,
        size: int,
        noun: str,
        triggers: Sequence[str] = (),
        templates: Sequence[str] = TEMPLATES,
        step: int = 0,
        held_out: int = 4,
        class_folder: Path | None = None,
        apart: bool = False,
    ) -> "ConceptImages":
        """Read and check ``folder``; of each image its description stays, not its pixels.

        Units: ``size`` and ``step`` in pixels; 0 makes every image a square. ``held_out`` images,
        at most a quarter; ``class_folder`` holds images of other members of the class. ``apart``:
        which template an image gets follows from its name alone, not from the others. Raises
        InputError: no such folder, no images, fewer than five, a broken, tiny or huge one, a bad
        mask or caption.
        """
        paths = _image_paths(folder)
        kept_back = max(1, min(held_out, len(paths) // 4))
        first_held_out = len(paths) - kept_back
        items, thumbnails = list[Captioned](), []
        for number, path in enumerate(paths):
            square = not step or number >= first_held_out
            turn = crc32(os.fsencode(path.name)) if apart else number
            caption = caption_of(path, noun, triggers=triggers, templates=templates, number=turn)
            item, covered = _checked(path, caption, size=size, step=0 if square else step)
            items.append(item)
            thumbnails.append((path.name, thumbnail(covered)))
        return ConceptImages(
            tuple(items[:first_held_out]),
            tuple(items[first_held_out:]),
            tuple(near_duplicates(thumbnails)),
            _of_the_class(class_folder, noun, triggers, size=size, step=step)
            if class_folder is not None
            else (),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over pixels, cuts and captions: a saved training belongs to these very images."""
        total = hashlib.sha256()
        for item in (*self.train, *self.held_out, *self.of_the_class):
            for part in (item.digest, item.caption.encode()):
                total.update(hashlib.sha256(part).digest())
        return total.hexdigest()


def _image_paths(folder: Path) -> list[Path]:
    """Return the images of ``folder``; kohya's ``10_name/`` below it is named, not read."""
    try:
        return image_paths(folder)
    except InputError as error:
        if error.code != "no-images":
            raise
        below = min((path for path in folder.iterdir() if path.is_dir()), default=None)
        if below is None:
            raise
        raise InputError(
            error.what,
            why="subfolders are not read",
            fix=f"give the subfolder itself, such as {below}, or move the images up",
            code=error.code,
        ) from error


def _checked(path: Path, caption: str, *, size: int, step: int) -> tuple[Captioned, Image.Image]:
    """Return what is kept of one image, and its pixels as they are trained on."""
    image = read_image(path, least_side=size // 2)
    mask = read_mask(path, image.size)
    shape = bucket_size(*image.size, side=size, step=step) if step else (size, size)
    cut = Cut(image.size, shape)
    covered = cut.covered(image)
    mask_sha256 = pixels_sha256(cut.covered(mask)) if mask is not None else ""
    return Captioned(path, cut, caption, pixels_sha256(covered), mask_sha256), covered


def _of_the_class(
    folder: Path, noun: str, triggers: Sequence[str], *, size: int, step: int
) -> tuple[Captioned, ...]:
    """Return the class images in ``folder``; none of their captions may call the concept."""
    items = list[Captioned]()
    for number, path in enumerate(_image_paths(folder)):
        caption = caption_of(path, noun, number=number)
        for trigger in triggers:
            if re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE):
                raise InputError(
                    f"the caption of the class image {path.name} names {trigger}",
                    why="class images show other members of the class",
                    fix=f"take {path} out of the folder, or {trigger} out of its caption",
                    code="class-caption-with-trigger",
                )
        items.append(_checked(path, caption, size=size, step=step)[0])
    return tuple(items)
