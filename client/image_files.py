"""One image from a file: upright, opaque, RGB, nothing of what a camera wrote beside the pixels.

PNG, JPEG, WebP, and HEIC where pillow-heif is installed; no other decoder is tried, whatever the
content says (security.md 6). EXIF orientation is applied, then all metadata is dropped;
transparency becomes white; size is checked before any pixel is decoded. A file that cannot be read
is named: skipping it would make the data set smaller without a word.
"""

import importlib
import warnings
from pathlib import Path
from typing import Final

from PIL import ExifTags, Image, UnidentifiedImageError

from ..core.errors import InputError
from ..core.shown import shown
from .sidecar import sidecar

MASK_SUFFIX: Final = "-masklabel.png"
"""A mask lies beside its image: photo.jpg, photo-masklabel.png, in any case; white is in full."""

FORMATS: Final = ("PNG", "JPEG", "WEBP")
"""What Pillow may decode. Left alone it chooses by content: a PostScript file named x.png would be
handed to Ghostscript, a program that runs what the file says (T8)."""

_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_HEIC: Final = frozenset({".heic", ".heif"})
_MIN_IMAGES: Final = 5
_MAX_PIXELS: Final = 64_000_000
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""


def image_paths(folder: Path) -> list[Path]:
    """Return the image files of ``folder`` in name order, masks left out.

    Raises InputError: no such folder, or fewer than five images.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder",
            why="the concept's images are read from it",
            fix="give the folder that holds the images with --images",
            code="images-not-a-folder",
        )
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES | _HEIC
        and not path.name.lower().endswith(MASK_SUFFIX)
        and path.is_file()
    )
    if len(paths) < _MIN_IMAGES:
        raise InputError(
            f"{folder} holds {len(paths)} images, {_MIN_IMAGES} is the least",
            why="some are trained on and some held out to score the result",
            fix="put more PNG, JPEG or WebP images of the concept there, best 10 to 20",
            code="no-images" if not paths else "too-few-images",
        )
    return paths


def read_image(path: Path, *, least_side: int = 0) -> Image.Image:
    """Return the image in ``path``, upright RGB. Units: ``least_side`` in pixels.

    Raises InputError: it is broken, above 64 megapixels, or its shorter side is below the least.
    """
    image = _decoded(path)
    if min(image.size) < least_side:
        raise _unusable(
            path,
            f"it has {image.width} x {image.height} pixels, {least_side} is the least side",
            why="an enlarged image teaches the model its blur",
            fix=f"replace or remove {path}, or train at a smaller size",
            code="image-too-small",
        )
    return image


def read_mask(path: Path, size: tuple[int, int]) -> Image.Image | None:
    """Return the grey mask that lies beside the image in ``path``, or None if there is none.

    Units: ``size`` of the image, (width, height) in pixels. Raises InputError: it is broken, all
    black, or not of that size.
    """
    beside = sidecar(path, MASK_SUFFIX)
    if beside is None:
        return None
    mask = _decoded(beside).convert("L")
    if mask.size != size or mask.getbbox() is None:
        raise _unusable(
            beside,
            f"it has {mask.width} x {mask.height} pixels, the image {size[0]} x {size[1]}"
            if mask.size != size
            else "it is black everywhere",
            why="a mask says of each pixel how much it counts",
            fix=f"draw {beside} anew, white where the concept is, or remove it",
            code="bad-mask",
        )
    return mask


def _decoded(path: Path) -> Image.Image:
    formats = FORMATS
    if path.suffix.lower() in _HEIC:
        _open_heic(path)
        formats = (*FORMATS, "HEIF")
    try:
        flat = _flat(path, formats)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise _unusable(
            path,
            f"its content is none of {', '.join(formats)}",
            why="no other kind of image is opened, whatever its name ends with",
            fix=f"save {path} anew as PNG, JPEG or WebP, or remove it",
            code="broken-image",
        ) from error
    except Exception as error:  # a decoder raises anything over bytes that a stranger wrote
        raise _broken(path, str(error) or type(error).__name__) from error
    bare = Image.new("RGB", flat.size)  # pixels only: what a camera wrote beside them goes
    bare.paste(flat)
    return bare


def _flat(path: Path, formats: tuple[str, ...]) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=formats) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                size = f"{opened.width} x {opened.height} pixels"
                raise _broken(path, f"{size}, 64 megapixels is the most")
            return _on_white(_upright(opened))


def _upright(image: Image.Image) -> Image.Image:
    """Turn by the orientation alone.

    Pillow's own way writes the whole EXIF anew, and fails where another tag has a wrong type.
    """
    image.load()
    method = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if method is None else image.transpose(method)


def _open_heic(path: Path) -> None:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        raise InputError(
            f"{path.name} is a HEIC image and pillow-heif is not installed",
            why="Pillow alone cannot read what phones of that kind write",
            fix='run pip install "orthofed[heic]", or save the images as JPEG',
            code="heic-not-installed",
        ) from error


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow would clip all above 255 to white
        return image.convert("I").point(lambda level: level / 256).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _broken(path: Path, reason: str) -> InputError:
    return _unusable(
        path,
        reason,
        why="a broken file would silently make the data set smaller",
        fix=f"repair or remove {path} and run the command again",
        code="broken-image",
    )


def _unusable(path: Path, reason: str, *, why: str, fix: str, code: str) -> InputError:
    return InputError(f"{shown(path.name)} cannot be used: {reason}", why=why, fix=fix, code=code)
