"""One picture of a whole demo: each owner's images beside base, single and merged model."""

import io

from PIL import Image

from .grid import labelled
from .image_files import FORMATS
from .report import ReportPictures

_COLOURS = 256
_COLUMNS = (
    ("training", 2, "two of its images, which stayed at home"),
    ("base", 1, "base, asked for a person"),
    ("single", 1, "single: this concept alone"),
    ("merged", 2, "merged: all concepts in one model"),
)


def overview(pictures: ReportPictures) -> bytes:
    """Return a PNG, one row a concept; of each model the first samples, from the same noise.

    Each concept has two training images and two samples of the merged model at the least.
    """
    heads = [text if at == 0 else "" for _, count, text in _COLUMNS for at in range(count)]
    rows = [
        [_image(data) for name, count, _ in _COLUMNS for data in getattr(each, name)[:count]]
        for each in pictures.concepts.values()
    ]
    data = io.BytesIO()
    labelled(rows, heads, list(pictures.concepts)).quantize(_COLOURS).save(
        data, "PNG", optimize=True
    )
    return data.getvalue()


def _image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=FORMATS).convert("RGB")
