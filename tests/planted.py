"""Secrets to plant, and the search for them in any spelling.

``Plants.make(place)`` returns a word of 24 random letters that stands for something private;
``found`` names every (file or message, place) in which one of them shows: as text of any case, in
UTF-16, hex, base64 at any offset, and inside zlib, gzip, zip and base64 that is unpacked first.
What a picture itself holds is looked for by pieces of its file and of its pixels.
"""

import base64
import contextlib
import io
import re
import secrets
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

_LETTERS = "abcdefghijkmnopqrstuvwxyz"
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{32,}")
_PIECE = 32
_MOST_UNPACKED = 64 << 20


class Plants:
    """The planted words by place, and pieces of pictures."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self._pieces: dict[bytes, str] = {}
        self._patterns: list[tuple[bytes, str]] = []

    def make(self, place: str) -> str:
        word = "".join(secrets.choice(_LETTERS) for _ in range(24))
        others = sum(name.partition(" #")[0] == place for name in self.words)
        self.name(f"{place} #{others + 1}" if others else place, word)
        return word

    def name(self, place: str, word: str) -> None:
        """Look for ``word`` too, which was not made here."""
        self.words[place] = word
        self._patterns += [(pattern, place) for pattern in spellings(word)]

    def add_picture(self, path: Path) -> None:
        """Look for pieces of the file, of its pixels, and of its pixels as the trainer has them."""
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        scaled = (pixels.astype(np.float32) / 127.5 - 1).astype(np.float32)
        for data in (path.read_bytes(), pixels.tobytes(), scaled.tobytes()):
            for at in range(0, len(data) - _PIECE, 509):
                piece = data[at : at + _PIECE]
                if len(set(piece)) > 8:  # not a plain surface
                    self._pieces[piece] = f"pixels of {path.suffix}"

    def found(self, named: Iterable[tuple[str, bytes]]) -> set[tuple[str, str]]:
        """Return (where, what) for every plant that shows."""
        return {
            (name, place)
            for name, data in named
            for view in unpacked(data)
            for place in self._in(view)
        }

    def _in(self, data: bytes) -> Iterator[str]:
        low = data.lower()
        yield from (place for pattern, place in self._patterns if pattern in low)
        yield from (place for piece, place in self._pieces.items() if piece in data)


def spellings(word: str) -> set[bytes]:
    """Return how a word can stand in bytes; all in lower case, as the searched data is."""
    plain = word.encode()
    made = {plain, plain[::-1], plain.hex().encode()}
    made |= {word.encode("utf-16-le"), word.encode("utf-16-be")}
    made.add(word.upper().encode().hex().encode())
    for at in range(3):
        text = base64.b64encode(b"\0" * at + plain)
        made.add(text[4 if at else 0 : -4].lower())
    return made


def unpacked(data: bytes) -> Iterator[bytes]:
    """Yield the data and what lies packed in it, two layers deep."""
    yield data
    for inner in _unpack(data):
        yield inner
        yield from _unpack(inner)


def _unpack(data: bytes) -> Iterator[bytes]:
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data):
        with contextlib.suppress(zlib.error):
            inner = zlib.decompressobj(47).decompress(data[start.start() :], _MOST_UNPACKED)
            if len(inner) > _PIECE // 2:
                yield inner
    if data[:4] == b"PK\x03\x04":
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if len(data) < 1 << 20:
        for run in _BASE64.findall(data):
            with contextlib.suppress(ValueError):
                cut = run[: len(run) // 4 * 4].translate(bytes.maketrans(b"-_", b"+/"))
                yield base64.b64decode(cut)


def write_pictures(folder: Path, plants: Plants, *, count: int) -> Path:
    """Write pictures whose names, captions and metadata are planted; return the folder."""
    folder = folder / plants.make("folder name")
    folder.mkdir(parents=True)
    random = np.random.default_rng(7)
    for number in range(count):
        blocks = random.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        image = Image.fromarray(np.kron(blocks, np.ones((2, 2, 1), np.uint8)))
        path = folder / f"{plants.make(f'file name {number}')}.{'jpg' if number % 2 else 'png'}"
        (_save_jpeg if number % 2 else _save_png)(image, path, plants)
        caption = f"photo of {{}} on a {plants.make(f'caption {number}')} tree"
        path.with_suffix(".txt").write_text(caption)
        plants.add_picture(path)
    return folder


def _save_png(image: Image.Image, path: Path, plants: Plants) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", plants.make("PNG text"))
    text.add_text("Author", plants.make("PNG packed text"), zip=True)
    text.add_itxt("Description", plants.make("PNG international text"))
    image.save(path, pnginfo=text)


def _save_jpeg(image: Image.Image, path: Path, plants: Plants) -> None:
    small = io.BytesIO()
    image.resize((8, 8)).save(small, "JPEG", comment=plants.make("thumbnail").encode())
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = plants.make("EXIF description")
    exif[ExifTags.Base.Artist] = plants.make("EXIF artist")
    exif[ExifTags.Base.Make] = plants.make("EXIF camera")
    more = exif.get_ifd(ExifTags.IFD.Exif)
    more[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + plants.make("EXIF comment").encode()
    more[ExifTags.Base.MakerNote] = small.getvalue()
    more[ExifTags.Base.BodySerialNumber] = plants.make("EXIF serial number")
    place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitude] = (47.0, 22.0, 7.123)
    place[ExifTags.GPS.GPSLongitude] = (8.0, 32.0, 31.456)
    place[ExifTags.GPS.GPSMapDatum] = plants.make("GPS datum")
    place[ExifTags.GPS.GPSAreaInformation] = b"ASCII\0\0\0" + plants.make("GPS area").encode()
    xmp = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{plants.make('XMP')}</x:xmpmeta>"
    comment = plants.make("JPEG comment").encode()
    image.save(path, quality=90, exif=exif, xmp=xmp.encode(), comment=comment)


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file below a folder, its name in front of its bytes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            yield name, name.encode() + b"\n" + path.read_bytes()
