"""XY plots: what each cell is drawn by, weights that are exact, models side by side."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from orthofed.__main__ import app
from orthofed.client.axis import Axis
from orthofed.client.base import Base
from orthofed.client.drawing import Drawing
from orthofed.client.grid import labelled
from orthofed.client.opened import Opened
from orthofed.client.plot import Plot
from orthofed.client.variant import Variant, strangers
from orthofed.core.errors import InputError
from orthofed.core.layout import ContributionLayout, unpack
from orthofed.core.regions import Region

from .serving import Running
from .two_released import pulled, two_released

STEPS = Drawing(steps=2)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two concepts, released at 0.6."""
    with two_released(tmp_path_factory.mktemp("fed")) as coordinator:
        yield coordinator


def _plot(filled: Running, x: str, y: str, *prompts: str, **more: object) -> Plot:
    asked = [Axis.parse(text, {"prompt": prompts, "seed": ["3"]}) for text in (x, y)]
    folder, base = pulled(filled), filled.folder.settings().base
    return Plot(folder, *asked, prompts, [3], **{"drawing": STEPS, "base": base, **more})  # type: ignore[arg-type]


def _by(base: Base, variant: Variant, prompt: str) -> np.ndarray:
    with variant.applied(base) as tokens:
        return np.asarray(Opened.of_base(base, tokens).draw(prompt, STEPS, [3])[0])


def _cells(picture: Image.Image, plot: Plot, own: int) -> list[np.ndarray]:
    """Return each cell's pixels, as large as in the plot."""
    xs, ys = len(plot.expanded(plot.x)), len(plot.expanded(plot.y))
    whole = np.asarray(picture)
    side = own * max(1, 160 // own)
    left, top = whole.shape[1] - xs * (side + 4), whole.shape[0] - ys * (side + 6)
    places = [
        (top + y * (side + 6) + 2, left + x * (side + 4) + 2) for y in range(ys) for x in range(xs)
    ]
    return [whole[a : a + side, b : b + side] for a, b in places]


def _same(cell: np.ndarray, wanted: np.ndarray) -> bool:
    size = (cell.shape[1], cell.shape[0])
    larger = Image.fromarray(wanted).resize(size, Image.Resampling.BICUBIC)
    return np.array_equal(cell, np.asarray(larger))


def test_lambda_scales_the_residuals_beside_the_bases_own_weights(filled: Running) -> None:
    """At 0 the base with the learned words, to the bit; at 0.6 as merged; 1.5 is another one."""
    plot = _plot(filled, "lambda=0,0.6,1.5", "prompt", "a photo of anna-k7")
    base, spec = Base.load(filled.folder.settings().base), filled.house.facts.spec
    merged = Variant.of_release(plot.folder, spec, lambda_=0.6)

    found = _cells(plot.draw("cpu")[0], plot, base.image_size)

    assert _same(found[0], _by(base, Variant(vectors=merged.vectors), "a photo of anna-k7"))
    assert _same(found[1], _by(base, merged, "a photo of anna-k7"))
    assert not np.array_equal(found[1], found[2])


def test_base_single_and_merged_are_compared_on_one_seed(filled: Running) -> None:
    """One row for each concept that the prompt names; the base reads the noun."""
    prompt = "a photo of anna-k7 beside bodo-x4"
    plot = _plot(filled, "seed", "model=base,single,merged", prompt, noun="fox")
    base, spec = Base.load(filled.folder.settings().base), filled.house.facts.spec

    picture, cells = plot.draw("cpu")

    assert [cell.model for cell in cells] == ["base", "anna", "bodo", "merged"]
    found = _cells(picture, plot, base.image_size)
    assert _same(found[0], _by(base, Variant(), "a photo of fox beside fox"))
    alone = Variant.of_release(plot.folder, spec, lambda_=None, only="bodo")
    assert _same(found[2], _by(base, alone, prompt))
    assert _same(found[3], _by(base, Variant.of_release(plot.folder, spec, lambda_=None), prompt))
    assert len({cell.tobytes() for cell in found}) == 4


def test_a_concept_alone_is_its_contribution(filled: Running) -> None:
    """The columns of its slot, at the weight asked for: A B as sent, up to the file's halves."""
    spec, packed = filled.house.facts.spec, filled.packs[1]
    sent = Variant.of_contribution(
        spec,
        packed.lease.slot,
        [],
        unpack(ContributionLayout(spec, packed.lease.vectors), packed.blob),
    )

    alone = Variant.of_release(pulled(filled), spec, only="bodo")

    assert list(alone.vectors) == ["bodo-x4"]
    for path, one in sent.residuals.items():
        wanted, found = one.up @ one.down, alone.residuals[path].up @ alone.residuals[path].down
        assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()


def test_a_concept_takes_its_place_in_prompts_and_regions(filled: Running) -> None:
    """{} becomes the trigger, also in the prompt that the other axis chose."""
    regions = [Region.parse("left: a {}, smiling")]
    plot = _plot(filled, "concept=anna,bodo", "prompt", "a {}", "two {}", drawing=Drawing(regions))

    cells = plot.cells()

    assert [cell.prompt for cell in cells] == [
        "a anna-k7",
        "a bodo-x4",
        "two anna-k7",
        "two bodo-x4",
    ]
    assert cells[1].drawing.regions[0].prompt == "a bodo-x4, smiling"


@pytest.mark.parametrize(
    ("x", "y", "prompt", "code"),
    [
        ("lambda=3", "prompt", "a", "bad-axis"),
        ("lambda=nan", "prompt", "a", "bad-axis"),
        ("steps=0", "prompt", "a", "bad-axis"),
        ("seed=1.5", "prompt", "a", "bad-axis"),
        ("lambda=", "prompt", "a", "bad-axis"),
        ("colour=red", "prompt", "a", "bad-axis"),
        ("prompt=a,b", "seed", "a", "bad-axis"),
        ("seed=1", "seed=2", "a", "bad-axis"),
        ("concept=anna", "seed", "a", "no-place"),
        ("concept=nobody", "seed", "a {}", "no-such-concept"),
        ("model=nobody", "seed", "a", "no-such-concept"),
        ("model=single", "seed", "a", "names-no-concept"),
    ],
)
def test_axes_that_mean_nothing_are_errors(
    filled: Running, x: str, y: str, prompt: str, code: str
) -> None:
    """Out of bounds, unknown, without values, the same twice, or not in this release."""
    with pytest.raises(InputError) as caught:
        _plot(filled, x, y, prompt).cells()

    assert caught.value.code == code
    with pytest.raises(InputError, match="no prompt"):
        _plot(filled, "steps=1", "seed").cells()


def test_a_plot_over_lambda_needs_the_releases_own_base(filled: Running) -> None:
    """Without --base the error names it; another model is refused; so is a folder nobody pulled."""
    with pytest.raises(InputError, match="no --base") as caught:
        _plot(filled, "lambda=1", "seed", "a", base=None).draw("cpu")
    assert caught.value.code == "no-base"
    other = pulled(filled) / "checkpoint"
    with pytest.raises(InputError, match="fingerprint"):
        _plot(filled, "lambda=1", "seed", "a", base=other).draw("cpu")
    with pytest.raises(InputError, match="spec") as caught:
        replace(_plot(filled, "lambda=1", "seed", "a"), folder=other).draw("cpu")
    assert caught.value.code == "not-pulled"


def test_the_command_says_every_cell(filled: Running, tmp_path: Path) -> None:
    """--json: axes, and what each cell was drawn by; --y beside --compare is a usage error."""
    release, out = str(pulled(filled)), tmp_path / "plot.png"
    given = ["sample", release, "--prompt", "a fox", "--steps", "1", "--device", "cpu"]
    given += ["-o", str(out), "--json"]

    done = CliRunner().invoke(app, [*given, "--x", "steps=1,2", "--seed", "5"])

    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["x"], told["y"]) == ("steps", "prompt")
    assert [(cell["steps"], cell["seed"], cell["model"]) for cell in told["cells"]] == [
        (1, 5, "merged"),
        (2, 5, "merged"),
    ]
    with Image.open(out) as picture:
        assert picture.width > 2 * 160
    twice = CliRunner().invoke(app, [*given, "--y", "seed", "--compare", "base"])
    assert twice.exit_code == 2


def test_a_mistyped_trigger_is_told(filled: Running, tmp_path: Path) -> None:
    """It is drawn all the same, as the base would; an area's trigger counts for its prompt."""
    release = pulled(filled)
    prompts = ["a photo of Anna-K7", "a photo of ana-k7", "a photo of anna-k7-2"]

    found, triggers = strangers(release, prompts, [])
    given = ["sample", str(release), "--prompt", prompts[1], "--steps", "1", "--count", "1"]
    done = CliRunner().invoke(app, [*given, "--device", "cpu", "-o", str(tmp_path / "one.png")])

    assert found == prompts[1:]
    assert triggers == ["anna-k7", "bodo-x4"]
    assert strangers(release, ["two people"], ["bodo-x4 with a hat"])[0] == []
    assert "warning: no trigger in 'a photo of ana-k7'" in done.output


def test_labels_stand_over_columns_and_beside_rows() -> None:
    """There is ink over each column and left of each row, and none between the pictures."""
    image = Image.new("RGB", (160, 160), "white")

    picture = labelled([[image] * 2] * 3, ["lambda 0", "lambda 1"], ["a fox", "a tree", "a car"])

    ink = np.asarray(picture.convert("L")) < 128
    left, top = picture.width - 2 * 164, picture.height - 3 * 166
    assert not ink[top:, left:].any()
    assert all(ink[:top, left + 164 * k : left + 164 * (k + 1)].any() for k in range(2))
    assert all(ink[top + 166 * k : top + 166 * (k + 1), :left].any() for k in range(3))
