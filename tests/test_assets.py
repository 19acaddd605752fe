"""The base and the concepts that ship: small, loadable, wide enough, far apart from one another."""

import json
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]
from PIL import Image
from safetensors import safe_open

from orthofed.assets import pocket_base, pocket_concepts
from orthofed.core.names import collide, slug
from orthofed.core.slots import capacity
from orthofed.core.targets import target_layers
from orthofed.core.vocabulary import reserved_words

WEIGHTS = sorted(pocket_base().rglob("*.safetensors"))
CONCEPTS = sorted(path for path in pocket_concepts().iterdir() if path.is_dir())


def _shapes(component: str) -> dict[str, tuple[int, ...]]:
    (file,) = (pocket_base() / component).glob("*.safetensors")
    with safe_open(file, "np") as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118  # no mapping


def test_the_weights_are_float16_and_at_most_16_mb() -> None:
    """Small enough to ship in the repository."""
    assert sum(file.stat().st_size for file in WEIGHTS) <= 16_000_000
    for file in WEIGHTS:
        with safe_open(file, "np") as tensors:
            kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118  # no mapping
        assert kinds == {"F16"}


def test_diffusers_opens_the_folder_and_every_weight_arrives() -> None:
    """Version 5 of transformers renames modules; a miss would leave random weights."""
    pipeline = StableDiffusionPipeline.from_pretrained(pocket_base(), local_files_only=True)

    with safe_open(pocket_base() / "text_encoder" / "model.safetensors", "np") as tensors:
        live = {
            name.removeprefix("text_model."): value
            for name, value in pipeline.text_encoder.state_dict().items()
        }
        for name in tensors.keys():  # noqa: SIM118  # no mapping
            assert name.startswith("text_model.")
            stored = tensors.get_tensor(name).astype(np.float32)
            assert np.array_equal(live[name.removeprefix("text_model.")].float().numpy(), stored)


def test_twelve_slots_fit_at_rank_8() -> None:
    """Each of the twelve concepts can have a slot of its own."""
    layers = [
        *target_layers("unet", _shapes("unet")),
        *target_layers("text_encoder", _shapes("text_encoder")),
    ]

    assert capacity(layers, {layer.width: 8 for layer in layers}) >= 12


@pytest.mark.parametrize("folder", CONCEPTS, ids=lambda path: path.name)
def test_a_concept_has_sixteen_images_with_captions_that_name_a_place(folder: Path) -> None:
    """12 to train on and 4 held out; `{}` stands for the concept."""
    images = sorted(folder.glob("*.png"))

    assert len(images) == 16
    for path in images:
        with Image.open(path) as image:
            assert image.size == (64, 64)
        assert path.with_suffix(".txt").read_text().count("{}") == 1


def test_concept_names_are_slugs_that_cannot_be_mistaken() -> None:
    """Not for one another, and not for a word that the base knows."""
    vocabulary = json.loads((pocket_base() / "tokenizer" / "vocab.json").read_text())
    reserved = set(reserved_words(vocabulary))
    names = [folder.name for folder in CONCEPTS]

    assert len(names) == 12
    for index, name in enumerate(names):
        assert slug(name) == name
        assert name not in reserved
        assert not any(collide(name, other) for other in names[:index])


def test_no_random_drawing_of_the_base_is_one_of_the_concepts() -> None:
    """The base knows their class and style, never them: a ban that 3,000 draws obey."""
    from orthofed.assets import avatars, concepts  # noqa: PLC0415  # builders, not the package's API

    drawn = [avatars.peep(np.random.default_rng(k), concepts.BANNED) for k in range(3000)]

    assert len(concepts.BANNED) == 12
    assert not {avatar.identity for avatar in drawn} & concepts.BANNED
