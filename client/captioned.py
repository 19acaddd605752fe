"""One image with its caption: where it lies, how it is cut, and what its pixels were when checked.

Pixels are read from the file when they are asked for and not kept: ten thousand photographs fit in
memory as descriptions. Law: what is read again is what was checked, or the run stops. Cost: one
more decoding an image, when it is encoded.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageEnhance

from ..core.errors import InputError
from .captions import PLACE
from .cut import Cut
from .families.framing import Framing
from .image_files import read_image, read_mask

_COLOUR: Final = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@dataclass(frozen=True, slots=True)
class Captioned:
    """One upright RGB image and its caption, in which ``{}`` stands for the concept."""

    path: Path
    cut: Cut
    caption: str
    pixels_sha256: str  # of the covered image, before shift and mirror
    mask_sha256: str  # as above; empty without a mask
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)  # brightness, contrast, saturation

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of `image`."""
        return self.cut.size

    @property
    def framing(self) -> Framing:
        """How the image was cut."""
        return self.cut.framing

    @property
    def image(self) -> Image.Image:
        """The pixels, read now.

        Raises InputError: the file is not what it was.
        """
        image = self._same(read_image(self.path), self.pixels_sha256)
        for change, factor in zip(_COLOUR, self.colour, strict=True):
            if factor != 1:
                image = change(image).enhance(factor)
        return image

    @property
    def mask(self) -> Image.Image | None:
        """The grey mask, cut as the image is, or None.

        Raises InputError: as `image`.
        """
        if not self.mask_sha256:
            return None
        mask = read_mask(self.path, self.cut.original)
        return self._same(mask, self.mask_sha256)

    @property
    def digest(self) -> bytes:
        """SHA-256 over everything that decides the latents, the mask and the sizes."""
        parts = (self.pixels_sha256, self.mask_sha256, repr(self.cut), repr(self.colour))
        return hashlib.sha256("\n".join(parts).encode()).digest()

    def _same(self, image: Image.Image | None, sha256: str) -> Image.Image:
        covered = self.cut.covered(image) if image is not None else None
        if covered is None or image is None or image.size != self.cut.original:
            raise _changed(self.path)
        if pixels_sha256(covered) != sha256:
            raise _changed(self.path)
        return self.cut.varied(covered)


def pixels_sha256(image: Image.Image) -> str:
    """Return the hash of size and pixels."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def filled(items: Iterable[Captioned], phrase: str) -> list[str]:
    """Return the captions with ``phrase`` in the concept's place."""
    return [item.caption.replace(PLACE, phrase) for item in items]


def _changed(path: Path) -> InputError:
    return InputError(
        f"{path.name} or its mask is not what it was when the images were checked",
        why="a training belongs to the very images that it began with",
        fix="leave the folder alone while a command runs, and run the command again",
        code="image-changed",
    )
