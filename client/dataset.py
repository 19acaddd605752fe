"""The images of one concept: read once, upright, square, with a caption each, split for the score.

A folder holds PNG, JPEG or WebP files and, beside each, an optional text file of the same name. In
a caption `{}` stands for the concept; without it the first occurrence of the class noun does, else
the caption gets `{}, ` in front; without a caption a neutral template serves. The last images in
name order are held out: never trained on, only scored.

EXIF orientation is applied, then all metadata is dropped (security.md 6). A file that cannot be
read ends the command by name rather than shrinking the data set unseen. Nothing here leaves.
"""

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from ..core.errors import InputError
from .tokens import PLACE

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_MIN_IMAGES = 5
_MAX_PIXELS = 64_000_000
_UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow raises
_TEMPLATES = ("a picture of {}", "a portrait of {}", "an image of {}", "{}")


@dataclass(frozen=True, slots=True)
class Captioned:
    """One upright square RGB image and its caption, in which ``{}`` stands for the concept."""

    name: str
    image: Image.Image
    caption: str


@dataclass(frozen=True, slots=True)
class ConceptImages:
    """The images to train on and the held-out ones."""

    train: tuple[Captioned, ...]
    held_out: tuple[Captioned, ...]

    @staticmethod
    def load(folder: Path, *, size: int, noun: str, held_out: int = 4) -> "ConceptImages":
        """Read ``folder``. Units: ``size`` in pixels; ``held_out`` images, at most a quarter.

        Raises InputError: no such folder, no images, a broken or huge one, or fewer than five.
        """
        paths = _image_paths(folder)
        images = tuple(
            Captioned(path.name, _read(path, size), _caption(path, noun, number))
            for number, path in enumerate(paths)
        )
        kept_back = max(1, min(held_out, len(images) // 4))
        return ConceptImages(images[:-kept_back], images[-kept_back:])

    @property
    def digest(self) -> str:
        """SHA-256 over pixels and captions: a saved training belongs to these very images."""
        total = hashlib.sha256()
        for item in (*self.train, *self.held_out):
            total.update(hashlib.sha256(item.image.tobytes()).digest())
            total.update(hashlib.sha256(item.caption.encode()).digest())
        return total.hexdigest()


def filled(items: Sequence[Captioned], phrase: str) -> list[str]:
    """Return the captions with ``phrase`` in the concept's place."""
    return [item.caption.replace(PLACE, phrase) for item in items]


def _image_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder",
            why="the concept's images are read from it",
            fix="give the folder that holds the images with --images",
            code="images-not-a-folder",
        )
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file())
    if len(paths) < _MIN_IMAGES:
        raise InputError(
            f"{folder} holds {len(paths)} images, {_MIN_IMAGES} is the least",
            why="some are trained on and some held out to score the result",
            fix="put more PNG, JPEG or WebP images of the concept there, best 10 to 20",
            code="no-images" if not paths else "too-few-images",
        )
    return paths


def _read(path: Path, size: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                _check_pixels(path, opened)  # security.md 6: before any pixel is decoded
                flat = _on_white(ImageOps.exif_transpose(opened))
    except (*_UNREADABLE, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _broken(path, str(error)) from error
    bare = Image.new("RGB", (size, size))  # pixels only: what a camera wrote beside them goes
    bare.paste(ImageOps.fit(flat, (size, size), Image.Resampling.LANCZOS))
    return bare


def _check_pixels(path: Path, image: Image.Image) -> None:
    if image.width * image.height > _MAX_PIXELS:
        given = f"{image.width} x {image.height} pixels"
        raise _broken(path, f"{given}, 64 megapixels is the most")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _broken(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path.name} cannot be used: {reason}",
        why="a broken file would silently make the data set smaller",
        fix=f"repair or remove {path} and run the command again",
        code="broken-image",
    )


def _caption(path: Path, noun: str, number: int) -> str:
    sidecar = path.with_suffix(".txt")
    if not sidecar.is_file():
        return _TEMPLATES[number % len(_TEMPLATES)]
    try:
        text = " ".join(sidecar.read_text("utf-8").split())
    except UnicodeDecodeError as error:
        raise _broken(sidecar, f"it is not UTF-8 text ({error.reason})") from error
    if PLACE in text:
        return text
    found = re.search(rf"\b{re.escape(noun)}\b", text, re.IGNORECASE)
    if found:
        return text[: found.start()] + PLACE + text[found.end() :]
    return f"{PLACE}, {text}" if text else _TEMPLATES[number % len(_TEMPLATES)]
