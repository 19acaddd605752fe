"""What of an image is trained on, and the sizes that SDXL is told of it: always of the same cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from orthofed.client.cut import Cut

SIDES = st.integers(16, 400)


def test_a_wide_photo_in_a_square_says_its_own_size_and_where_it_was_cut() -> None:
    """4000 x 3000 in 1024 x 1024: scaled to 1365 x 1024, 171 columns cut away at the left."""
    framing = Cut((4000, 3000), (1024, 1024)).framing

    assert framing.numbers == (3000, 4000, 0, 171, 1024, 1024)


def test_a_tall_photo_in_a_bucket_is_cut_at_the_top() -> None:
    """800 x 2000 in 704 x 1408: scaled to 704 x 1760, 176 rows cut away at the top."""
    framing = Cut((800, 2000), (704, 1408)).framing

    assert framing.numbers == (2000, 800, 176, 0, 1408, 704)


def test_an_image_of_the_very_size_is_whole() -> None:
    """Nothing is scaled, nothing is cut."""
    assert Cut((1024, 1024), (1024, 1024)).framing.numbers == (1024, 1024, 0, 0, 1024, 1024)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(-4, 4), st.integers(-4, 4), st.booleans())
def test_the_corner_is_where_the_pixels_begin(
    width: int, height: int, side: int, other: int, x: int, y: int, mirrored: bool
) -> None:
    """An image whose red counts columns and green rows says where each pixel was: within two."""
    ramp = np.zeros((height, width, 3), np.float32)
    ramp[..., 0], ramp[..., 1] = np.arange(width), np.arange(height)[:, None]
    cut = Cut((width, height), (side, other), (x, y), mirrored)

    planes = [np.asarray(cut.varied(cut.covered(Image.fromarray(ramp[..., k])))) for k in range(2)]

    scale = max(side / width, other / height)
    magnified = (side / (side - abs(x)), other / (other - abs(y)))
    top, left = cut.framing.corner
    middle_x, middle_y = planes[0][0, side // 2] + 0.5, planes[1][other // 2, 0] + 0.5
    if mirrored:
        middle_x = width - middle_x
    slack = 1.5 + max(scale * m for m in magnified)
    assert (left + side // 2 + 0.5) == pytest.approx(middle_x * scale * magnified[0], abs=slack)
    assert (top + other // 2 + 0.5) == pytest.approx(middle_y * scale * magnified[1], abs=slack)
    assert planes[0].shape == (other, side)


def test_a_mirrored_copy_counts_its_corner_from_the_other_side() -> None:
    """Shifted by 8 to the right: 163 + 8 columns' worth lie at the left, so fewer at the right."""
    plain = Cut((2000, 1000), (1000, 1000), (8, 0))

    mirrored = Cut((2000, 1000), (1000, 1000), (8, 0), mirrored=True)

    magnified = 1000 / 992
    assert plain.framing.corner == (0, round(500 * magnified))
    assert mirrored.framing.corner == (0, round(2000 * magnified - 1000 - 500 * magnified))
    assert plain.framing.corner != mirrored.framing.corner
