"""Reading a concept's images: captions, the split, orientation, and every kind of bad folder."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

from orthofed.client.captioned import filled
from orthofed.client.dataset import ConceptImages
from orthofed.client.image_files import read_image
from orthofed.core.errors import InputError

from .tiny_concept import write_images

_EXIF_OF_A_BAD_EDITOR = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08" + b"".join(
    (
        b"\x00\x02",  # two tags
        b"\x01\x00\x00\x02\x00\x00\x00\x04abc\x00",  # ImageWidth, said to be a text
        b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00",  # orientation 6
        b"\x00\x00\x00\x00",
    )
)


def _load(folder: Path) -> ConceptImages:
    return ConceptImages.load(folder, size=16, noun="fox", triggers=("anna-k7",))


def test_the_last_images_by_name_are_held_out(tmp_path: Path) -> None:
    """Sixteen images give twelve to train on and four to score."""
    images = _load(write_images(tmp_path / "images", 16))

    assert [item.name for item in images.held_out] == [f"{n}.png" for n in (12, 13, 14, 15)]
    assert len(images.train) == 12
    assert {item.size for item in images.train} == {(16, 16)}


def test_few_images_hold_out_a_quarter(tmp_path: Path) -> None:
    """With five images, four to train on is better than one."""
    images = _load(write_images(tmp_path / "images", 5))

    assert (len(images.train), len(images.held_out)) == (4, 1)


def test_a_caption_gets_the_concept_in_its_place(tmp_path: Path) -> None:
    """`{}` where it stands; else a trigger; else the class noun's first place; else a template."""
    folder = write_images(tmp_path / "images", 5)
    (folder / "01.txt").write_text("a red Fox beside a fox\n")
    (folder / "02.txt").write_text("Anna-K7, a fox on a tree")
    (folder / "03.txt").unlink()

    captions = filled(_load(folder).train, "anna-k7 anna-k7_1")

    assert captions == [
        "photo of anna-k7 anna-k7_1 on a red tree",
        "a red anna-k7 anna-k7_1 beside a fox",
        "anna-k7 anna-k7_1, a fox on a tree",
        "anna-k7 anna-k7_1",
    ]


def test_images_without_a_caption_take_the_owners_templates_in_turn(tmp_path: Path) -> None:
    """`templates` of the settings; a caption of its own wins."""
    folder = write_images(tmp_path / "images", 5)
    for number in (0, 1, 3):
        (folder / f"{number:02}.txt").unlink()

    images = ConceptImages.load(folder, size=16, noun="fox", templates=("a {}", "one {} outside"))

    said = [item.caption for item in images.train]
    assert said == ["a {}", "one {} outside", "photo of {} on a red tree", "one {} outside"]


@pytest.mark.parametrize("name", ["02.jpg", "02.JPEG", "02.webp", "02.PNG"])
def test_every_kind_of_file_is_read_upright_and_without_what_the_camera_wrote(
    tmp_path: Path, name: str
) -> None:
    """White on the left as stored, orientation 6: white on top; no EXIF, profile or comment."""
    folder = write_images(tmp_path / "images", 5)
    (folder / "02.png").unlink()
    image = Image.new("RGB", (20, 20), "black")
    image.paste("white", (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    image.save(folder / name, exif=exif)

    item = next(item for item in _load(folder).train if item.name == name)

    upright = item.image.convert("L")
    assert upright.getpixel((8, 2)) > 240  # pyright: ignore[reportOperatorIssue]  # an L pixel
    assert upright.getpixel((8, 13)) < 15  # pyright: ignore[reportOperatorIssue]  # as above
    assert item.image.info == {}


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "1", "LA"])
def test_every_mode_of_pixels_becomes_rgb_of_the_same_grey(tmp_path: Path, mode: str) -> None:
    """A grey of half the range, whatever way a file says it; one bit can only say white."""
    folder = write_images(tmp_path / "images", 5)
    (folder / "02.png").unlink()
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 128 * 257, np.uint16))
    else:
        image = Image.new("L", (20, 20), 255 if mode == "1" else 128).convert(mode)
    image.save(folder / ("02.jpg" if mode == "CMYK" else "02.png"))

    item = next(item for item in _load(folder).train if item.name.startswith("02."))

    wanted = 255 if mode == "1" else 128
    assert np.abs(np.asarray(item.image).astype(int) - wanted).max() <= 2


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


def test_a_photo_with_a_tag_of_a_wrong_type_still_comes_out_upright(tmp_path: Path) -> None:
    """Its ImageWidth is text: only the orientation is used, so nothing else has to be right."""
    folder = write_images(tmp_path / "images", 5)
    image = Image.new("RGB", (20, 20), "black")
    image.paste("white", (0, 0, 10, 20))
    image.save(folder / "00.jpg", quality=100, exif=_EXIF_OF_A_BAD_EDITOR)
    (folder / "00.png").unlink()

    upright = _load(folder).train[0].image

    assert min(_pixel(upright, 8, 2)) > 200
    assert max(_pixel(upright, 8, 13)) < 50


def _pixel(image: Image.Image, x: int, y: int) -> list[int]:
    return [int(level) for level in np.asarray(image)[y, x]]


def test_every_orientation_comes_out_as_pillow_itself_turns_it(tmp_path: Path) -> None:
    """All eight, and one that does not exist."""
    path = tmp_path / "one.png"
    image = Image.effect_noise((20, 12), 50).convert("RGB")
    for orientation in range(10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
        with Image.open(path) as stored:
            wanted = ImageOps.exif_transpose(stored)

        assert read_image(path).tobytes() == wanted.tobytes(), orientation


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


def test_images_in_subfolders_are_named_and_not_read(tmp_path: Path) -> None:
    """As kohya lays them, `10_name/`: the fix is that folder."""
    write_images(tmp_path / "10_anna", 6)

    with pytest.raises(InputError, match="subfolders are not read") as caught:
        _load(tmp_path)

    assert str(tmp_path / "10_anna") in caught.value.fix


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


@pytest.mark.parametrize("kind", ["EPS", "TIFF", "GIF", "BMP"])
def test_no_other_kind_of_image_is_opened_whatever_its_name_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A PostScript file named .png would start Ghostscript on what the file says (T8)."""
    folder, ran = write_images(tmp_path / "images", 5), tmp_path / "ran"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\necho ran >> {ran}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # so that it is looked for again
    Image.new("RGB", (20, 20), "red").save(folder / "02.png", kind)

    with pytest.raises(InputError, match=r"02\.png cannot be used: .* none of PNG, JPEG, WEBP"):
        _load(folder)

    assert not ran.exists()


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


def test_a_caption_that_names_the_concept_nowhere_is_an_error(tmp_path: Path) -> None:
    """Its looks would be learnt as those of a tree; the file and the words to write are said."""
    folder = write_images(tmp_path / "images", 5)
    (folder / "02.txt").write_text("on a tree with foxglove")

    with pytest.raises(InputError, match=r"02\.txt names the concept nowhere") as caught:
        _load(folder)

    assert caught.value.code == "caption-without-trigger"
    assert "anna-k7 or fox" in caught.value.fix


def test_a_tiny_image_is_an_error(tmp_path: Path) -> None:
    """Enlarging it would teach its blur."""
    folder = write_images(tmp_path / "images", 5)
    Image.new("RGB", (400, 7)).save(folder / "02.png")

    with pytest.raises(InputError, match="400 x 7 pixels, 8 is the least side") as caught:
        _load(folder)

    assert caught.value.code == "image-too-small"


def test_images_keep_their_shape_in_buckets_and_are_scored_as_squares(tmp_path: Path) -> None:
    """A wide image stays wide in training; what is held out is cut, so that one figure compares."""
    folder = write_images(tmp_path / "images", 8)
    for number in (1, 7):
        Image.new("RGB", (200, 110), "red").save(folder / f"{number:02}.png")

    images = ConceptImages.load(folder, size=32, noun="fox", step=4, held_out=2)

    assert images.train[1].image.size == (40, 24)
    assert {item.size for item in images.held_out} == {(32, 32)}


def test_copies_of_an_image_are_reported(tmp_path: Path) -> None:
    """A re-saved, smaller copy; pictures that only share a colour are no copies."""
    folder = write_images(tmp_path / "images", 5)
    Image.open(folder / "00.png").resize((18, 18)).save(folder / "03.png")

    images = _load(folder)

    assert images.duplicates == (("00.png", "03.png"),)


def test_a_mask_lies_beside_its_image(tmp_path: Path) -> None:
    """It is no image of its own, is cut as its image is, and must be of its size and not black."""
    folder = write_images(tmp_path / "images", 5)
    mask = Image.new("L", (20, 20))
    mask.paste(255, (0, 0, 10, 20))
    mask.save(folder / "01-masklabel.png")

    items = _load(folder).train

    assert [item.mask is not None for item in items] == [False, True, False, False]
    mask = items[1].mask
    assert mask is not None
    assert mask.size == (16, 16)
    assert (mask.getpixel((0, 0)), mask.getpixel((15, 0))) == (255, 0)
    for bad in (Image.new("L", (20, 20)), Image.new("L", (20, 19), 255)):
        bad.save(folder / "01-masklabel.png")
        with pytest.raises(InputError, match=r"01-masklabel\.png cannot be used") as caught:
            _load(folder)
        assert caught.value.code == "bad-mask"


@pytest.mark.parametrize("ending", ["-masklabel.PNG", "-MASKLABEL.PNG", "-MaskLabel.Png"])
def test_a_mask_is_known_by_its_ending_in_any_case(tmp_path: Path, ending: str) -> None:
    """As Windows writes it: it is that image's mask, and no image to train on."""
    folder = write_images(tmp_path / "images", 5)
    mask = Image.new("L", (20, 20))
    mask.paste(255, (0, 0, 10, 20))
    mask.save(folder / f"01{ending}", "PNG")

    images = _load(folder)

    assert [item.name for item in images.train] == ["00.png", "01.png", "02.png", "03.png"]
    assert [item.mask is not None for item in images.train] == [False, True, False, False]


def test_a_caption_is_known_by_its_ending_in_any_case(tmp_path: Path) -> None:
    """`.TXT` is read; of two the one in lower case; another image's name is no ending."""
    folder = write_images(tmp_path / "images", 5)
    (folder / "00.txt").unlink()
    (folder / "00.TXT").write_text("photo of {} in upper case")
    (folder / "01.TXT").write_text("photo of {} passed over")
    (folder / "02.txt").unlink()
    (folder / "02X.TXT").write_text("photo of {} that is no image's")

    first, second, third, _ = (item.caption for item in _load(folder).train)

    assert first == "photo of {} in upper case"
    assert second == "photo of {} on a blue tree"
    assert "no image's" not in third


def test_a_byte_order_mark_is_no_part_of_a_caption(tmp_path: Path) -> None:
    """Windows' editor writes one before the first word."""
    folder = write_images(tmp_path / "images", 5)
    (folder / "00.txt").write_bytes(b"\xef\xbb\xbfphoto of {}")
    (folder / "01.txt").write_bytes(b"\xef\xbb\xbf")

    first, second, *_ = (item.caption for item in _load(folder).train)

    assert first == "photo of {}"
    assert "\ufeff" not in second


def test_a_name_that_is_no_text_has_its_template_too(tmp_path: Path) -> None:
    """Linux takes any bytes as a name: with `--dp` the template still follows from it alone."""
    folder = write_images(tmp_path / "images", 5)
    name = os.fsdecode(b"01\xff.png")
    (folder / "01.png").rename(folder / name)

    images = ConceptImages.load(folder, size=16, noun="fox", apart=True)

    assert name in [item.name for item in images.train]


def test_a_photo_of_a_phone_that_writes_heic_is_read(tmp_path: Path) -> None:
    """With the extra installed it is an image like any other."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    pillow_heif.register_heif_opener()
    folder = write_images(tmp_path / "images", 5)
    Image.new("RGB", (32, 32), "red").save(folder / "02.heic", quality=90)

    images = _load(folder)

    assert "02.heic" in [item.name for item in images.train]


def test_a_heic_image_without_the_extra_is_an_error_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left out in silence."""
    folder = write_images(tmp_path / "images", 5)
    (folder / "02.heic").write_bytes(b"heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)

    with pytest.raises(InputError, match="pillow-heif is not installed") as caught:
        _load(folder)

    assert "orthofed[heic]" in caught.value.fix


def test_an_image_that_changes_while_a_command_runs_is_noticed(tmp_path: Path) -> None:
    """Pixels are read again when they are encoded: they are those that were checked, or nothing."""
    folder = write_images(tmp_path / "images", 5)
    mask = Image.new("L", (20, 20), 255)
    mask.save(folder / "01-masklabel.png")
    first, second, *_ = _load(folder).train
    assert first.image.size == (16, 16)

    Image.new("RGB", (20, 20), "red").save(folder / "00.png")
    Image.new("L", (20, 20), 254).save(folder / "01-masklabel.png")

    with pytest.raises(InputError, match=r"00\.png or its mask is not what it was") as caught:
        _ = first.image
    assert caught.value.code == "image-changed"
    with pytest.raises(InputError, match=r"01\.png or its mask is not what it was"):
        _ = second.mask


def test_the_digest_follows_the_original_size(tmp_path: Path) -> None:
    """SDXL is told of it: the same pixels, scaled from another size, are another run."""
    one, other = write_images(tmp_path / "one", 5), write_images(tmp_path / "other", 5)
    Image.new("RGB", (20, 20), "red").save(one / "00.png")
    Image.new("RGB", (32, 32), "red").save(other / "00.png")

    images, others = _load(one), _load(other)

    assert images.train[0].pixels_sha256 == others.train[0].pixels_sha256
    assert images.digest != others.digest
