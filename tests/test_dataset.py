"""Reading a concept's images: captions, the split, orientation, and every kind of bad folder."""

from pathlib import Path

import pytest
from PIL import Image

from orthofed.client.dataset import ConceptImages, filled
from orthofed.core.errors import InputError

from .tiny_concept import write_images


def _load(folder: Path) -> ConceptImages:
    return ConceptImages.load(folder, size=16, noun="fox")


def test_the_last_images_by_name_are_held_out(tmp_path: Path) -> None:
    """Sixteen images give twelve to train on and four to score."""
    images = _load(write_images(tmp_path / "images", 16))

    assert [item.name for item in images.held_out] == [f"{n}.png" for n in (12, 13, 14, 15)]
    assert len(images.train) == 12
    assert {item.image.size for item in images.train} == {(16, 16)}


def test_few_images_hold_out_a_quarter(tmp_path: Path) -> None:
    """With five images, four to train on is better than one."""
    images = _load(write_images(tmp_path / "images", 5))

    assert (len(images.train), len(images.held_out)) == (4, 1)


def test_a_caption_gets_the_concept_in_its_place(tmp_path: Path) -> None:
    """`{}` where it stands; else the class noun's first place; else in front; else a template."""
    folder = write_images(tmp_path / "images", 5)
    (folder / "01.txt").write_text("a red Fox beside a fox\n")
    (folder / "02.txt").write_text("on a tree")
    (folder / "03.txt").unlink()

    captions = filled(_load(folder).train, "anna-k7 anna-k7_1")

    assert captions == [
        "photo of anna-k7 anna-k7_1 on a red tree",
        "a red anna-k7 anna-k7_1 beside a fox",
        "anna-k7 anna-k7_1, on a tree",
        "anna-k7 anna-k7_1",
    ]


def test_a_photo_taken_on_its_side_comes_out_upright(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera was turned; the metadata itself is dropped."""
    folder = write_images(tmp_path / "images", 5)
    image = Image.new("RGB", (20, 20), "black")
    image.paste("white", (0, 0, 10, 20))  # white on the left as stored, so on top when upright
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "00.png", exif=exif)

    upright = _load(folder).train[0].image

    assert upright.getpixel((8, 2)) == (255, 255, 255)
    assert upright.getpixel((8, 13)) == (0, 0, 0)
    assert "exif" not in upright.info


def test_a_transparent_image_stands_on_white(tmp_path: Path) -> None:
    """Emoji and cut-outs have no background of their own."""
    folder = write_images(tmp_path / "images", 5)
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(folder / "00.png")

    assert _load(folder).train[0].image.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("count", "code"), [(0, "no-images"), (1, "too-few-images"), (4, "too-few-images")]
)
def test_too_few_images_are_an_error_that_says_how_many(
    tmp_path: Path, count: int, code: str
) -> None:
    """An empty folder, or one with too few to hold any out."""
    folder = write_images(tmp_path / "images", count)

    with pytest.raises(InputError, match=f"holds {count} images, 5 is the least") as caught:
        _load(folder)

    assert caught.value.code == code


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A typing mistake in --images."""
    with pytest.raises(InputError, match="not a folder"):
        _load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n cut"])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    """Empty, something else, cut short: the file is named and nothing is skipped in silence."""
    folder = write_images(tmp_path / "images", 6)
    (folder / "03.png").write_bytes(content)

    with pytest.raises(InputError, match=r"03\.png cannot be used") as caught:
        _load(folder)

    assert caught.value.code == "broken-image"


def test_an_image_cut_in_the_middle_is_named(tmp_path: Path) -> None:
    """The header is whole, the pixels are not."""
    folder = write_images(tmp_path / "images", 6)
    whole = (folder / "02.png").read_bytes()
    (folder / "02.png").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(InputError, match=r"02\.png cannot be used"):
        _load(folder)


def test_a_caption_that_is_not_text_is_named(tmp_path: Path) -> None:
    """A binary file with the name of a caption."""
    folder = write_images(tmp_path / "images", 6)
    (folder / "02.txt").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match=r"02\.txt cannot be used"):
        _load(folder)


def test_a_huge_image_is_refused_before_its_pixels_are_read(tmp_path: Path) -> None:
    """A decompression bomb costs no memory (security.md 6)."""
    folder = write_images(tmp_path / "images", 5)
    Image.new("1", (8_100, 8_100)).save(folder / "00.png")

    with pytest.raises(InputError, match="64 megapixels is the most"):
        _load(folder)


def test_the_digest_follows_pixels_and_captions(tmp_path: Path) -> None:
    """A save belongs to these very images: another caption is another run."""
    folder = write_images(tmp_path / "images", 5)
    before = _load(folder).digest

    (folder / "00.txt").write_text("drawing of {}")

    assert _load(folder).digest != before
