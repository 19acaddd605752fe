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
from PIL import Image
from torch import Tensor

from orthofed.client.base import Base
from orthofed.client.drawing import Drawing
from orthofed.client.regions import regional, side_by_side
from orthofed.client.sample import sample
from orthofed.core.errors import InputError
from orthofed.core.regions import MAX_REGIONS, PLACES, Region, inside, region_weights, window

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
    (x0, x1), (y0, y1) = (sorted((draw(FRACTIONS), draw(FRACTIONS))) for _ in "xy")
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
    covered = np.any([region.holds(height, width) for region in regions] or [False], axis=0)
    assert np.array_equal(weights[0], np.broadcast_to(~covered, (height, width)))
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
        held = torch.from_numpy(region.holds(8, 16).reshape(-1))

        assert torch.equal(first[:, ~held], other[:, ~held])
        assert torch.allclose(first[:, ~held], plain[:, ~held], atol=1e-5)
        assert not torch.isclose(first[:, held], other[:, held]).all(-1).any()
        expected = attn(h, encoder_hidden_states=ours)
        assert torch.allclose(first[:, held], expected[:, held], atol=1e-5)

    assert unet.attn_processors == own, "what was there is back"


def _told(
    base: Base, latents: Tensor, level: int, texts: list[Tensor], pooled: list[Tensor]
) -> Tensor:
    """Return what the network says under prompts side by side, as diffusers' pipelines ask it."""
    unet, (height, width) = base.family.denoiser, latents.shape[-2:]
    added = {}
    if unet.config["addition_embed_type"] == "text_time":
        sizes = torch.tensor([[8.0 * height, 8.0 * width, 0, 0, 8.0 * height, 8.0 * width]])
        added["added_cond_kwargs"] = {"text_embeds": torch.cat(pooled, 1), "time_ids": sizes}
    with torch.no_grad():
        return unet(
            latents, torch.tensor(level), encoder_hidden_states=side_by_side(texts), **added
        )[0]


def test_at_the_noisy_end_a_region_is_a_picture_of_its_own(base: Base) -> None:
    """Right half: the network's own answer to it, with its own pooled vector and size.

    Below the bound that holds from a quarter of it inwards; at its edge the whole canvas is one
    picture. Behind the block nothing is left.
    """
    unet, random = base.family.denoiser, torch.Generator().manual_seed(7)
    own, width = unet.config["sample_size"], unet.config["cross_attention_dim"]
    across = unet.config["projection_class_embeddings_input_dim"] or 0
    given = across - 6 * (unet.config["addition_time_embed_dim"] or 0)
    texts = [torch.randn(1, 7, width, generator=random) for _ in "ab"]
    pooled = [torch.randn(1, given, generator=random) for _ in "ab"]
    x = torch.randn(1, unet.config["in_channels"], own, 2 * own, generator=random)
    region = [Region.parse("right: a fox")]

    with regional(unet, region, (own, 2 * own), apart=0.6):
        noisy, late = (_told(base, x, level, texts, pooled) for level in (401, 400))
    with regional(unet, region, (own, 2 * own), apart=0):
        together = [_told(base, x, level, texts, pooled) for level in (401, 400)]

    alone, after = (
        _told(base, x[..., own:].contiguous(), level, texts[1:], pooled[1:]) for level in (401, 400)
    )
    assert torch.allclose(noisy[..., own:], alone, atol=1e-5)
    assert torch.equal(noisy[..., :own], together[0][..., :own]), "where no region is"
    assert torch.equal(late[..., :own], together[1][..., :own])
    inner = own // 4
    assert torch.allclose(late[..., own + inner :], after[..., inner:], atol=1e-5)
    ramp = (torch.arange(inner) + 0.5) / inner
    edge = ramp * after[..., :inner] + (1 - ramp) * together[1][..., own : own + inner]
    assert torch.allclose(late[..., own : own + inner], edge, atol=1e-5)
    assert not torch.allclose(noisy[..., own:], together[0][..., own:], atol=1e-3)
    assert "forward" not in vars(unet)


@settings(derandomize=True, deadline=None)
@given(_regions(), SIDES, SIDES, st.floats(0.25, 16))
def test_regions_fade_at_their_edges_and_nowhere_else(
    region: Region, height: int, width: int, depth: float
) -> None:
    """Nothing outside, all of it deep inside, an even slope between; picture edges do not count."""
    found = inside(region, height, width, depth=depth)
    held = region.holds(height, width)

    assert not found[~held].any()
    assert 0 <= found.min() <= found.max() <= 1
    for axis in (0, 1):
        assert np.abs(np.diff(found, axis=axis)).max(initial=0) <= 1 / depth + 1e-9
    assert (found == 1).all() or not held.all()


def test_left_fades_as_right_does() -> None:
    """Mirrored, at the seam alone."""
    left, right = (inside(Region(PLACES[at], "a"), 2, 8, depth=2.0) for at in ("left", "right"))

    assert np.array_equal(left, right[:, ::-1])
    assert left[0].tolist() == [1, 1, 0.75, 0.25, 0, 0, 0, 0]


@settings(derandomize=True, deadline=None)
@given(_regions(), SIDES, SIDES, SIDES, st.sampled_from([1, 2, 4, 8]))
def test_a_window_holds_its_region_and_is_as_large_as_a_picture_of_the_model(
    region: Region, height: int, width: int, own: int, step: int
) -> None:
    """Any box, any canvas whose sides are multiples of the step."""
    height, width = height * step, width * step
    held = region.holds(height, width)
    assume(held.any())

    rows, columns = window(region, height, width, own=(own, own), step=step)

    assert held[rows, columns].sum() == held.sum()
    for side, full in ((rows, height), (columns, width)):
        assert side.start >= 0
        assert side.stop <= full
        assert side.stop - side.start >= min(own, full)
        assert (side.stop - side.start) % step == 0


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
    size, seeds = (2 * side, side), [3, 7]
    regions = [Region.parse("left: a red fox"), Region.parse("right: a blue tree")]

    def drawn(*regions: Region, negative: str = "") -> Image.Image:
        asked = Drawing(regions, negative, size, steps=2)
        return sample(base.folder, ["a fox"], asked, seeds=seeds)

    first, again = drawn(*regions), drawn(*regions)
    plain, against = drawn(), drawn(*regions, negative="a tree")

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
        release = tmp_path / "release-1"
        (release / "trust").mkdir(parents=True)
        (release / "trust" / "spec.json").write_bytes(coordinator.house.facts.spec.to_bytes())
        for path in (coordinator.folder.releases / "1").iterdir():
            (release / path.name).symlink_to(path)
        (tmp_path / "pocket-base").symlink_to(coordinator.folder.settings().base)
        done = subprocess.run(
            ["bash", "-c", "\n".join(["set -euo pipefail", *lines])],
            cwd=tmp_path,
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "HOME": str(tmp_path),
                "OMP_NUM_THREADS": "1",  # tiny networks; threads that wait for others cost more
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert "1 x 2 pictures in both.png" in done.stdout
    for name in ("anna.png", "strengths.png", "compared.png", "both.png"):
        data, at, kinds = (tmp_path / name).read_bytes(), 8, set[bytes]()
        while at < len(data):
            kinds.add(data[at + 4 : at + 8])
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        assert kinds == {b"IHDR", b"IDAT", b"IEND"}


def test_a_size_that_does_not_fit_is_an_error(base: Base) -> None:
    """Not a multiple of what the levels need; the bound is named."""
    with pytest.raises(InputError, match="each side is a multiple of"):
        sample(base.folder, ["a fox"], Drawing(size=(base.image_size + 1, base.image_size)))
