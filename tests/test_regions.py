"""Regions: the geometry's laws, and an attention in which a prompt stays in its area."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orthofed.client.base import Base
from orthofed.client.regions import regional, side_by_side
from orthofed.client.sample import sample
from orthofed.core.errors import InputError
from orthofed.core.regions import MAX_REGIONS, PLACES, Region, region_weights

from .serving import founded, running
from .tiny_base import tiny_base
from .tiny_families import tiny_sd2, tiny_sdxl

PAGE = Path(__file__).parents[1] / "docs" / "sample.md"
MAKERS: dict[str, Callable[[Path], Path]] = {"sd1": tiny_base, "sd2": tiny_sd2, "sdxl": tiny_sdxl}
EULER = pytest.mark.filterwarnings(  # diffusers' Euler scheduler, with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
SIDES = st.integers(1, 24)
FRACTIONS = st.floats(0, 1)


@pytest.fixture(scope="module", params=sorted(MAKERS))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.set_num_threads(1)
    return Base.load(MAKERS[request.param](tmp_path_factory.mktemp("base") / "base"))


@st.composite
def _regions(draw: st.DrawFn) -> Region:
    x0, x1, y0, y1 = (draw(FRACTIONS) for _ in range(4))
    assume(x0 < x1 and y0 < y1)
    return Region((x0, y0, x1, y1), "a fox")


@settings(derandomize=True, deadline=None)
@given(st.lists(_regions(), max_size=5), SIDES, SIDES)
def test_weights_sum_to_one_at_every_position(
    regions: list[Region], height: int, width: int
) -> None:
    """Any boxes, any shape: shares are equal, and the base is read where no region is."""
    try:
        weights = region_weights(regions, height, width)
    except InputError:
        assert not all(region.holds(height, width).any() for region in regions)
        return

    assert weights.shape == (len(regions) + 1, height, width)
    assert np.allclose(weights.sum(0), 1, atol=1e-12)
    inside = np.any([region.holds(height, width) for region in regions] or [False], axis=0)
    assert np.array_equal(weights[0], np.broadcast_to(~inside, (height, width)))
    assert all(part.any() for part in weights[1:])
    assert all(len(set(w[w > 0])) <= 1 for w in weights[1:].reshape(len(regions), height * width).T)


@settings(derandomize=True, deadline=None)
@given(SIDES, SIDES, FRACTIONS, FRACTIONS)
def test_a_box_of_one_position_is_never_empty(
    height: int, width: int, right: float, down: float
) -> None:
    """The bound that the error names is enough, wherever the box lies."""
    wide, high = 1.001 / width, 1.001 / height  # more than a rounding
    assume(wide <= 1 and high <= 1)
    x, y = right * (1 - wide), down * (1 - high)

    assert (
        Region((x, y, min(1.0, x + wide), min(1.0, y + high)), "a fox").holds(height, width).any()
    )


@settings(derandomize=True, deadline=None)
@given(SIDES, SIDES, st.floats(0.001, 0.999))
def test_boxes_that_meet_part_the_picture(height: int, width: int, cut: float) -> None:
    """Each position is in one of two halves, odd widths too."""
    left, right = Region((0.0, 0.0, cut, 1.0), "a"), Region((cut, 0.0, 1.0, 1.0), "b")

    assert np.array_equal(left.holds(height, width), ~right.holds(height, width))


@pytest.mark.parametrize(
    "text",
    [
        "middle: a fox",
        "a fox",
        "0,0,1: a fox",
        "0.5,0,0.5,1: a fox",
        "0,0,1.1,1: a",
        "nan,0,1,1: a",
    ],
)
def test_an_area_that_is_none_is_an_error_with_the_names(text: str) -> None:
    """A name outside the set, a point too few, an empty box, one outside, not a number."""
    with pytest.raises(InputError, match="left, right, top") as caught:
        Region.parse(text)

    assert caught.value.code == "no-such-region"


def test_a_region_says_a_prompt_and_fits() -> None:
    """No prompt; too small for the coarsest level, with the bound; too many."""
    with pytest.raises(InputError, match="no prompt"):
        Region.parse("left: ")
    with pytest.raises(InputError, match=r"at least 0\.250 wide and 0\.500 high"):
        region_weights([Region.parse("0,0,0.05,1: a fox")], 2, 4)
    with pytest.raises(InputError, match=f"at most {MAX_REGIONS}"):
        region_weights([Region.parse("left: a")] * (MAX_REGIONS + 1), 8, 8)
    assert {Region.parse(f"{name}: a: b").prompt for name in PLACES} == {"a: b"}


def _readers(base: Base) -> list[Any]:
    modules = base.family.denoiser.named_modules()
    return [module for name, module in modules if name.endswith("attn2")]


def test_a_prompt_changes_nothing_outside_its_region(base: Base) -> None:
    """Each cross-attention of the network, 8 x 16 latents: the same bits outside, others inside."""
    unet, random = base.family.denoiser, torch.Generator().manual_seed(5)
    width = unet.config["cross_attention_dim"]
    whole, ours, theirs = (torch.randn(2, 7, width, generator=random) for _ in range(3))
    region = Region.parse("right: a fox")
    own = dict(unet.attn_processors)

    for attn in _readers(base):
        h = torch.randn(2, 128, attn.query_dim, generator=random)
        plain = attn(h, encoder_hidden_states=whole)
        with regional(unet, [region], (8, 16)), torch.no_grad():
            first = attn(h, encoder_hidden_states=side_by_side([whole, ours]))
            other = attn(h, encoder_hidden_states=side_by_side([whole, theirs]))
        inside = torch.from_numpy(region.holds(8, 16).reshape(-1))

        assert torch.equal(first[:, ~inside], other[:, ~inside])
        assert torch.allclose(first[:, ~inside], plain[:, ~inside], atol=1e-5)
        assert not torch.isclose(first[:, inside], other[:, inside]).all(-1).any()
        expected = attn(h, encoder_hidden_states=ours)
        assert torch.allclose(first[:, inside], expected[:, inside], atol=1e-5)

    assert unet.attn_processors == own, "what was there is back"


def test_an_overlap_is_shared(base: Base) -> None:
    """Two regions over everything: the mean of what each would be alone."""
    unet, random = base.family.denoiser, torch.Generator().manual_seed(6)
    texts = [torch.randn(1, 7, unet.config["cross_attention_dim"], generator=random) for _ in "abc"]
    everywhere = [Region((0.0, 0.0, 1.0, 1.0), "a"), Region((0.0, 0.0, 1.0, 1.0), "b")]
    attn = _readers(base)[0]
    h = torch.randn(1, 64, attn.query_dim, generator=random)

    with regional(unet, everywhere, (8, 8)), torch.no_grad():
        found = attn(h, encoder_hidden_states=side_by_side(texts))

    alone = [attn(h, encoder_hidden_states=text) for text in texts[1:]]
    assert torch.allclose(found, (alone[0] + alone[1]) / 2, atol=1e-5)


@EULER
def test_regions_change_a_picture_the_same_way_each_time(base: Base) -> None:
    """Twice as wide as the model's own, with a negative prompt; one family after the other."""
    side = base.image_size
    asked: dict[str, Any] = {"size": (2 * side, side), "seeds": [3, 7], "steps": 2}
    regions = [Region.parse("left: a red fox"), Region.parse("right: a blue tree")]

    first = sample(base.folder, ["a fox"], regions=regions, **asked)
    again = sample(base.folder, ["a fox"], regions=regions, **asked)
    plain = sample(base.folder, ["a fox"], **asked)
    against = sample(base.folder, ["a fox"], regions=regions, negative="a tree", **asked)

    assert first.tobytes() == again.tobytes()
    cell = [np.asarray(picture)[:side, : 2 * side] for picture in (first, plain, against)]
    assert not np.array_equal(cell[0], cell[1])
    assert not np.array_equal(cell[0], cell[2])


def test_the_commands_of_the_page_run_and_write_no_metadata(tmp_path: Path) -> None:
    """docs/sample.md on a release of two concepts; a PNG is header, pixels and end."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    lines = [block.removeprefix("$ ") for block in blocks]
    with running(founded(tmp_path)) as coordinator:
        for concept in ("anna-k7", "bodo-x4"):
            member = coordinator.member()
            member.contribute(member.pack(member.lease(concept, (concept,))))
        coordinator.release()
        (tmp_path / "release-1").symlink_to(coordinator.folder.releases / "1")
        done = subprocess.run(
            ["bash", "-c", "\n".join(["set -euo pipefail", *lines])],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert "1 x 2 pictures in both.png" in done.stdout
    for name in ("anna.png", "both.png"):
        data, at, kinds = (tmp_path / name).read_bytes(), 8, set[bytes]()
        while at < len(data):
            kinds.add(data[at + 4 : at + 8])
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        assert kinds == {b"IHDR", b"IDAT", b"IEND"}


def test_a_size_that_does_not_fit_is_an_error(base: Base) -> None:
    """Not a multiple of what the levels need; the bound is named."""
    with pytest.raises(InputError, match="each side is a multiple of"):
        sample(base.folder, ["a fox"], size=(base.image_size + 1, base.image_size), steps=1)
