"""More to train on from the same images: copies follow their images in pixels, masks and sizes."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from orthofed.client.augment import augmented
from orthofed.client.dataset import ConceptImages
from orthofed.client.training_settings import TrainingSettings

from .tiny_concept import NOUN, write_images


def _images(folder: Path) -> ConceptImages:
    write_images(folder, 6)
    mask = Image.new("L", (20, 20))
    mask.paste(255, (0, 0, 10, 20))
    mask.save(folder / "00-masklabel.png")
    Image.new("RGB", (40, 20), "red").save(folder / "01.png")
    return ConceptImages.load(folder, size=16, step=4, noun=NOUN)


def test_flip_adds_a_mirror_image_of_every_copy_and_of_its_mask(tmp_path: Path) -> None:
    """Originals, their shifted copies, then all of that mirrored; captions stay."""
    images = _images(tmp_path / "images")

    items = augmented(images.train, TrainingSettings(jitters=2, flip=True))

    half, mask = len(items) // 2, items[0].mask
    assert len(items) == 4 * len(images.train)
    for plain, mirrored in zip(items[:half], items[half:], strict=True):
        assert ImageOps.mirror(plain.image) == mirrored.image
        assert plain.caption == mirrored.caption
    assert mask is not None
    assert items[half].mask == ImageOps.mirror(mask)


def test_a_shift_moves_the_picture_by_at_most_the_reach(tmp_path: Path) -> None:
    """The image itself stays the first; a reach that is wider than an image leaves most of it."""
    images = _images(tmp_path / "images")
    plain = TrainingSettings()

    items = augmented(images.train, TrainingSettings(jitters=20, jitter_pixels=64))

    assert augmented(images.train, plain) == list(images.train)
    assert items[: len(images.train)] == list(images.train)
    shifts = np.abs([item.cut.shift for item in items[len(images.train) :]])
    assert shifts.max() == 4
    assert {item.size for item in items} == {item.size for item in images.train}
    assert all(item.image.size == item.size for item in items)


def test_a_jittered_copy_may_have_other_colours_and_the_image_keeps_its_own(tmp_path: Path) -> None:
    """Each copy its own, within the bound; the mask and the sizes are not touched by it."""
    images = _images(tmp_path / "images")
    settings = TrainingSettings(jitters=3, jitter_pixels=0, jitter_colour=0.2)

    items = augmented(images.train, settings)

    plain, copies = items[: len(images.train)], items[len(images.train) :]
    assert plain == list(images.train)
    factors = np.array([item.colour for item in copies])
    assert len({item.colour for item in copies}) == len(copies)
    assert 0.8 <= factors.min() < 0.9
    assert 1.1 < factors.max() <= 1.2
    for item, copy in zip(plain, copies, strict=False):
        assert item.image != copy.image
        assert (item.mask, item.framing) == (copy.mask, copy.framing)
        assert item.digest != copy.digest
        if item.name == "01.png":  # one red: all three draw it towards one grey at most
            assert np.abs(np.asarray(copy.image)[..., 0].mean() / 255 - 1) < 0.45
