"""The digest of a folder of images as it lies there: names and bytes of images, captions, masks.

It says whether a folder is still the one that a concept was trained from, and reads no pixel, so
neither the base nor torch is loaded for it. What a training's saves belong to is finer: the pixels
and words that it saw (dataset.py).
"""

import hashlib
import os
from pathlib import Path

from .image_files import MASK_SUFFIX, image_paths
from .sidecar import sidecar


def images_digest(folder: Path) -> str:
    """Return the SHA-256, in hex, over all that is read of ``folder``.

    Raises InputError: no such folder, or fewer than five images.
    """
    total = hashlib.sha256()
    for path in image_paths(folder):
        beside = (sidecar(path, ".txt"), sidecar(path, MASK_SUFFIX))
        for each in (path, *(extra for extra in beside if extra is not None)):
            total.update(hashlib.sha256(os.fsencode(each.name)).digest())
            total.update(file_digest(each))
    return total.hexdigest()


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of one file, which is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
