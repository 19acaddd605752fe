"""A sample picture of a release, and what its file may hold: pixels and nothing else.

    samples/<concept>.png    signature, IHDR, (PLTE), IDAT ..., IEND

Laws: no other chunk passes, so no text, time, profile, EXIF or place of a picture is published
(formats.md 8); nothing stands behind the end, neither of the file nor of the packed rows; 8 bits,
not interlaced, sides of at most 512, so a file has at most 1 MiB and a reader unpacks no more than
that (T5, T8). Pixels are as signed: two machines need not draw the same, so no rebuild gives
them (docs/adr/0027). Source: the PNG specification (ISO/IEC 15948), sections 5 and 11.
"""

import re
import zlib
from typing import Final

from .errors import VerificationFailed

FOLDER: Final = "samples/"
MOST_SIDE: Final = 512
MOST_BYTES: Final = 1 << 20
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CHUNK: Final = 12
"""Bytes of a chunk beside its data: length, name, check sum."""
_ORDER: Final = re.compile(r"IHDR(?: PLTE)?(?: IDAT)+ IEND")
_CHANNELS: Final = {0: 1, 2: 3, 3: 1}
"""Bytes a pixel by colour type: grey, colour, palette."""
_HEADER_BYTES: Final = 13
_PALETTE: Final = 3
_MOST_PALETTE: Final = 768


def picture_name(concept: str) -> str:
    """Return the name of a concept's picture in a release.

    >>> picture_name("anna")
    'samples/anna.png'
    """
    return f"{FOLDER}{concept}.png"


def check_picture(data: bytes) -> None:
    """Check that ``data`` is a PNG of pixels alone, of a size that a release takes.

    Raises VerificationFailed ``bad-picture``.
    """
    if len(data) > MOST_BYTES:  # T5: size before parsing
        raise _bad(f"a picture of {len(data)} bytes", f"at most {MOST_BYTES} are taken")
    chunks = _chunks(data)
    names = " ".join(name for name, _ in chunks)
    if not _ORDER.fullmatch(names):
        raise _bad(f"a picture of chunks {names[:80]!r}", "it holds pixels and no metadata")
    header = chunks[0][1]
    if len(header) != _HEADER_BYTES:
        raise _bad(f"a picture's header of {len(header)} bytes", f"it has {_HEADER_BYTES}")
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
    depth, colour, *rest = header[8:]
    if not (1 <= width <= MOST_SIDE and 1 <= height <= MOST_SIDE):
        raise _bad(f"a picture of {width} x {height}", f"its sides are 1 to {MOST_SIDE}")
    if depth != 8 or colour not in _CHANNELS or any(rest):  # noqa: PLR2004  # bits
        raise _bad(f"a picture of {depth} bits and colour type {colour}", "8 bits, no alpha")
    palette = [len(body) for name, body in chunks if name == "PLTE"]
    fits = all(size % 3 == 0 and size <= _MOST_PALETTE for size in palette)
    if not fits or bool(palette) != (colour == _PALETTE):
        raise _bad(
            "a picture whose palette does not fit", "1 to 256 colours where pixels name them"
        )
    packed = b"".join(body for name, body in chunks if name == "IDAT")
    _check_rows(packed, height * (1 + width * _CHANNELS[colour]))


def _chunks(data: bytes) -> list[tuple[str, bytes]]:
    """Return name and data of each chunk; the last one ends with the file."""
    if data[: len(_SIGNATURE)] != _SIGNATURE:
        raise _bad("a picture that is no PNG", "its first 8 bytes say so")
    found, at = list[tuple[str, bytes]](), len(_SIGNATURE)
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + _CHUNK + size
        body = data[at + 4 : end - 4]
        if end > len(data) or zlib.crc32(body) != int.from_bytes(data[end - 4 : end], "big"):
            raise _bad(f"a picture that is damaged at byte {at}", "a chunk has a check sum")
        found.append((body[:4].decode("latin-1"), body[4:]))
        at = end
    return found


def _check_rows(packed: bytes, size: int) -> None:
    """Check that ``packed`` gives exactly ``size`` bytes, and that nothing stands behind them."""
    unpack = zlib.decompressobj()
    try:
        rows = unpack.decompress(packed, size + 1)
    except zlib.error as error:
        raise _bad("a picture whose rows do not unpack", "it was changed") from error
    if len(rows) != size or not unpack.eof or unpack.unused_data or unpack.unconsumed_tail:
        raise _bad(f"a picture of other than {size} bytes of rows", "its header says how many")


def _bad(what: str, why: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why=f"{why}: a sample picture of a release is read by people's programs",
        fix="draw it with orthofed sample --card, which writes such files",
        code="bad-picture",
    )
