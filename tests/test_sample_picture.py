"""A sample picture's file holds pixels and nothing else, of a bounded size."""

import io
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from orthofed.client.card_pictures import picture_bytes
from orthofed.core.errors import VerificationFailed
from orthofed.core.sample_picture import MOST_BYTES, MOST_SIDE, check_picture

RANDOM = np.random.default_rng(7)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8))


def saved(image: Image.Image, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", **options)
    return data.getvalue()


GOOD = saved(noise(20, 12))


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def joined(parts: list[tuple[bytes, bytes]]) -> bytes:
    packed = [
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")
        for name, body in parts
    ]
    return GOOD[:8] + b"".join(packed)


def with_text() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "who drew it")
    return saved(noise(4, 4), pnginfo=text)


def changed(number: int, change: Callable[[bytes], bytes]) -> bytes:
    parts = chunks(GOOD)
    name, body = parts[number]
    return joined([*parts[:number], (name, change(body)), *parts[number + 1 :]])


def repacked(rows: bytes) -> bytes:
    return changed(1, lambda _: zlib.compress(rows))


ROWS = zlib.decompress(chunks(GOOD)[1][1])
CASES = {
    "text": with_text(),
    "a time of the picture": joined([*chunks(GOOD)[:-1], (b"tIME", bytes(7)), (b"IEND", b"")]),
    "EXIF": saved(noise(4, 4), exif=Image.Exif().tobytes() + b"Exif\0\0MM"),
    "a profile": saved(noise(4, 4), icc_profile=b"x" * 200),
    "dots an inch": saved(noise(4, 4), dpi=(72, 72)),
    "a private chunk": joined([*chunks(GOOD)[:-1], (b"prVt", b"who"), (b"IEND", b"")]),
    "bytes behind the end": GOOD + b"who drew it",
    "bytes in the end": joined([*chunks(GOOD)[:-1], (b"IEND", b"who"), (b"IEND", b"")]),
    "bytes behind the rows": changed(1, lambda body: body + b"who drew it"),
    "more rows than it says": repacked(ROWS + bytes(61)),
    "fewer rows than it says": repacked(ROWS[:-61]),
    "rows that unpack to 1 GB": repacked(bytes(1 << 24)),
    "rows cut short": changed(1, lambda body: body[:-9]),
    "no rows": joined([chunks(GOOD)[0], (b"IEND", b"")]),
    "a palette beside colours": joined([chunks(GOOD)[0], (b"PLTE", b"who"), *chunks(GOOD)[1:]]),
    "an alpha channel": saved(noise(4, 4).convert("RGBA")),
    "sixteen bits": saved(Image.fromarray(np.zeros((4, 4), np.uint16))),
    "a side too long": saved(Image.new("RGB", (MOST_SIDE + 1, 1))),
    "no side": changed(0, lambda body: bytes(4) + body[4:]),
    "interlaced": changed(0, lambda body: body[:12] + b"\1"),
    "a wrong check sum": GOOD[:-1] + b"x",
    "a JPEG": b"\xff\xd8\xff\xe0" + bytes(20),
    "nothing": b"",
    "too many bytes": GOOD + bytes(MOST_BYTES),
}


@pytest.mark.parametrize("case", CASES)
def test_anything_but_pixels_is_refused(case: str) -> None:
    """formats.md 8, T5, T8: metadata, hidden bytes, bombs, other sizes."""
    with pytest.raises(VerificationFailed) as caught:
        check_picture(CASES[case])

    assert caught.value.code == "bad-picture"


def test_grey_colour_and_palette_pictures_pass() -> None:
    """What programs write for pictures without transparency."""
    for image in (noise(3, 2), noise(3, 2).convert("L"), noise(30, 30).quantize(256)):
        check_picture(saved(image))


def test_what_we_write_is_small_and_bare() -> None:
    """Noise is the largest PNG there is; all that came with the image is gone."""
    image = noise(2000, 1000)
    image.info |= {"icc_profile": b"x" * 99, "Comment": "who", "dpi": (72, 72), "exif": b"who"}

    data = picture_bytes(image)

    assert {name for name, _ in chunks(data)} == {b"IHDR", b"IDAT", b"IEND"}
    assert Image.open(io.BytesIO(data)).size == (512, 256)
    assert len(picture_bytes(noise(512, 512))) <= MOST_BYTES


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.data())
def test_a_changed_byte_is_never_an_error_of_another_kind(data: st.DataObject) -> None:
    """Anything may come from a server: refused in our words, or the check sums fit."""
    at = data.draw(st.integers(0, len(GOOD) - 1))
    value = data.draw(st.integers(0, 255))
    changed_bytes = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]

    if changed_bytes != GOOD:
        with pytest.raises(VerificationFailed):
            check_picture(changed_bytes)
