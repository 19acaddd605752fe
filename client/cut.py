"""What of an image is trained on: scaled to cover a shape, cut in the middle, shifted, mirrored.

    scale  = max(width / original width, height / original height)
    corner = (scaled - size) / 2, moved and magnified by the shift, counted from the other side
             where the copy is mirrored

A shift cuts away what moves out at one side and scales the rest back to the size. Laws: the pixels
and the framing (families/framing.py) come from the same numbers, so no copy is trained on with the
sizes of another; equal cuts of equal images give equal pixels. Units: pixels, (width, height).
"""

from dataclasses import dataclass

from PIL import Image, ImageOps

from .families.framing import Framing


@dataclass(frozen=True, slots=True)
class Cut:
    """How one upright image of the size ``original`` becomes one of ``size``."""

    original: tuple[int, int]
    size: tuple[int, int]
    shift: tuple[int, int] = (0, 0)  # to the right and down
    mirrored: bool = False

    def covered(self, image: Image.Image) -> Image.Image:
        """Return ``image`` scaled to cover the size and cut in the middle, nothing more."""
        left, top = self._offset
        box = (left, top, self.original[0] - left, self.original[1] - top)
        return image.resize(self.size, Image.Resampling.LANCZOS, box=box)

    def varied(self, covered: Image.Image) -> Image.Image:
        """Return the copy of a ``covered`` image that this cut asks for."""
        if any(self.shift):
            (left, top), (width, height) = self._kept
            box = (left, top, left + width, top + height)
            covered = covered.crop(box).resize(self.size, Image.Resampling.BICUBIC)
        return ImageOps.mirror(covered) if self.mirrored else covered

    @property
    def framing(self) -> Framing:
        """The sizes that SDXL is told of this very cut."""
        (width, height), (first, kept) = self.size, self._kept
        left, top = (
            (offset * self._scale + start) * whole / part
            for offset, start, whole, part in zip(self._offset, first, self.size, kept, strict=True)
        )
        if self.mirrored:
            left = self.original[0] * self._scale * width / kept[0] - width - left
        corner = (max(0, round(top)), max(0, round(left)))
        return Framing((self.original[1], self.original[0]), corner, (height, width))

    @property
    def _scale(self) -> float:
        return max(self.size[0] / self.original[0], self.size[1] / self.original[1])

    @property
    def _offset(self) -> tuple[float, float]:
        """What is cut away at the left and at the top, in pixels of the original."""
        width, height = self.original
        scale = self._scale
        cut_x, cut_y = width - self.size[0] / scale, height - self.size[1] / scale
        return max(0.0, cut_x / 2), max(0.0, cut_y / 2)  # rounding may leave a hair below nothing

    @property
    def _kept(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return corner and size of what the shift leaves of the covered image."""
        (x, y), (width, height) = self.shift, self.size
        return (max(-x, 0), max(-y, 0)), (width - abs(x), height - abs(y))
