"""Pictures: the consumer's grid, and models compared on the same noise."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orthofed.client.drawing import Drawing
from orthofed.client.grid import grid
from orthofed.client.packing import packed
from orthofed.client.sample import compare, sample
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.errors import InputError

from .tiny_concept import NOUN, Bench, bench


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("sample"))


def test_a_release_is_sampled_from_its_checkpoint(tiny: Bench, tmp_path: Path) -> None:
    """`checkpoint/` of a pulled folder is the pipeline; equal seeds give equal pictures."""
    (tmp_path / "checkpoint").symlink_to(tiny.base.folder)

    first = sample(tmp_path, ["a red fox"], Drawing(steps=2), seeds=[3, 4])
    again = sample(tmp_path, ["a red fox"], Drawing(steps=2), seeds=[3, 4])
    other = sample(tmp_path, ["a red fox"], Drawing(steps=2), seeds=[4, 5])

    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert first.width >= 2 * 160


def test_variants_are_compared_on_the_same_noise(tiny: Bench) -> None:
    """The base drawn twice gives the same bits; the single model another picture."""
    tensors = packed(tiny.train(steps=20), tiny.spec)
    single = Variant.of_contribution(tiny.spec, 0, [Trigger("anna-k7")], tensors)
    prompts = [f"photo of {NOUN}", f"photo of {NOUN}", "photo of anna-k7 anna-k7_1"]

    rows = compare(tiny.base, [Variant(), Variant(), single], prompts, count=2, steps=2)

    pixels = [[np.asarray(image) for image in row] for row in rows]
    assert np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0][0], pixels[2][0])
    assert not np.array_equal(pixels[0][0], pixels[0][1])


def test_a_grid_has_a_label_under_every_image() -> None:
    """Tiny images are enlarged; a long prompt is broken into lines and makes the cell higher."""
    image = Image.new("RGB", (64, 64), "red")

    low = grid([[(image, "a fox\nseed 0")] * 3])
    high = grid([[(image, "a fox with a very long tail on a red tree beside a blue house")] * 3])

    assert low.width == 3 * (128 + 4)
    assert high.height > low.height > 128
    below = np.asarray(low)[130:]
    assert (below < 128).any(), "the label is drawn"


def test_a_folder_without_a_pipeline_is_an_error(tmp_path: Path) -> None:
    """A release pulled without its checkpoint, or a wrong path."""
    with pytest.raises(InputError, match="holds no pipeline"):
        sample(tmp_path, ["a red fox"])


def test_a_damaged_pipeline_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    """model_index.json is there, the rest is not."""
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')

    with pytest.raises(InputError, match="orthofed pull"):
        sample(tmp_path, ["a red fox"])
