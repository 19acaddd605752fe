"""What a training learns from: made once, the same from every cache, not made again on resume."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from orthofed.client.cache_size import CacheSize
from orthofed.client.caches import Caches
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.dataset import ConceptImages
from orthofed.client.material import Material
from orthofed.client.step import Step
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.core.errors import InputError, OrthoFedError

from .tiny_concept import NOUN, SETTINGS, Bench, bench, write_images

TRIGGERS = [Trigger("anna-k7")]
DISK = replace(SETTINGS, cache="disk")
PRIOR = replace(SETTINGS, prior_weight=1.0, prior_images=6, prior_steps=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("material"))


@contextmanager
def _counted(*modules: nn.Module) -> Iterator[list[int]]:
    """Count the forward passes of each network."""
    counts = [0] * len(modules)

    def counting(number: int) -> nn.Module:
        def count(*_: object) -> None:
            counts[number] += 1

        return count  # pyright: ignore[reportReturnType]  # torch's hook

    handles = [m.register_forward_hook(counting(n)) for n, m in enumerate(modules)]  # pyright: ignore[reportArgumentType]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _train(
    tiny: Bench,
    settings: TrainingSettings,
    caches: Caches | None = None,
    *,
    images: ConceptImages | None = None,
    saves: Path | None = None,
    stop_at: int = 0,
) -> Trained:
    images = images or tiny.images

    def on_step(step: Step) -> None:
        if step.number == stop_at:
            raise TimeoutError

    identity = identity_of(tiny.spec, 0, TRIGGERS, NOUN, images, settings)
    return train(
        *(tiny.base, tiny.spec, 0, TRIGGERS, NOUN, images, settings),
        on_step=on_step,
        saves=TrainingSaves(saves, identity) if saves else None,
        caches=caches,
    )


def _caches(folder: Path, settings: TrainingSettings) -> Caches:
    return Caches.at(folder / "run", folder / "class", settings)


def _same(one: Trained, other: Trained) -> bool:
    vectors = one.embeddings["text_encoder", 0], other.embeddings["text_encoder", 0]
    return np.array_equal(*vectors) and all(
        np.array_equal(a, other.a[path]) for path, a in one.a.items()
    )


def _shapes(folder: Path, base_side: int) -> Path:
    """Write wide and square images, one with a mask."""
    write_images(folder, 8)
    Image.new("RGB", (2 * base_side + 7, base_side + 1), "red").save(folder / "02.png")
    Image.new("L", (20, 20), 255).save(folder / "01-masklabel.png")
    return folder


def test_memory_and_disk_give_the_same_bits(tiny: Bench, tmp_path: Path) -> None:
    """Two shapes, a mask, copies, class images; on disk written, and then found."""
    base = tiny.base
    folder = _shapes(tmp_path / "images", base.image_size)
    images = ConceptImages.load(folder, size=base.image_size, noun=NOUN, step=base.image_step)
    settings = replace(PRIOR, jitters=2, flip=True)
    disk = replace(settings, cache="disk")

    plain = _train(tiny, settings, images=images)
    written = _train(tiny, disk, _caches(tmp_path, disk), images=images)
    found = _train(tiny, disk, _caches(tmp_path, disk), images=images)

    assert _same(plain, written)
    assert _same(plain, found)
    assert plain.losses == found.losses
    assert len(list((tmp_path / "run").glob("*.safetensors"))) == 4  # latents, states; two shapes


def test_a_resumed_training_neither_encodes_nor_samples_again(tiny: Bench, tmp_path: Path) -> None:
    """Killed behind step 3, gone on with: three steps of passes and nothing else; the same bits."""
    settings = replace(PRIOR, cache="disk")
    whole = _train(tiny, settings)
    encoder, unet = tiny.base.vae.encoder, tiny.base.family.denoiser
    with _counted(encoder, unet) as first, pytest.raises(TimeoutError):
        _train(tiny, settings, _caches(tmp_path, settings), saves=tmp_path / "saves", stop_at=3)

    with _counted(encoder, unet) as second:
        resumed = _train(tiny, settings, _caches(tmp_path, settings), saves=tmp_path / "saves")

    assert first[0] == 1
    assert first[1] > 2 * 3
    assert second == [0, 2 * 3]
    assert resumed.resumed_at == 3
    assert _same(whole, resumed)


def test_a_finished_training_makes_nothing_before_it_is_packed(tiny: Bench, tmp_path: Path) -> None:
    """Its last save is its result: no image is encoded and no state sampled for it."""
    whole = _train(tiny, SETTINGS, saves=tmp_path)

    with _counted(tiny.base.vae.encoder, tiny.base.family.denoiser) as counts:
        again = _train(tiny, SETTINGS, saves=tmp_path)

    assert counts == [0, 0]
    assert _same(whole, again)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"null_states": 3},
        {"null_sampling_steps": 3},
        {"jitters": 2},
        {"strangers": 3},
    ],
)
def test_what_decides_the_bytes_decides_where_they_are_kept(
    tiny: Bench, tmp_path: Path, change: dict[str, int]
) -> None:
    """With another setting the answers are made anew and the old ones go; a rate changes none."""
    _train(tiny, DISK, _caches(tmp_path, DISK))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    other = replace(DISK, **change)

    faster = replace(DISK, rate=2e-2)
    _train(tiny, faster, _caches(tmp_path, faster))
    assert {path.name for path in (tmp_path / "run").iterdir()} == names

    trained = _train(tiny, other, _caches(tmp_path, other))

    assert _same(trained, _train(tiny, other))
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert len(left) == len(names) == 4
    assert left != names


def test_kept_caches_stay_beside_those_of_other_settings(tiny: Bench, tmp_path: Path) -> None:
    """`keep_cache`: an owner who tries settings encodes once."""
    for seed in (0, 1):
        settings = replace(DISK, keep_cache=True, seed=seed)
        _train(tiny, settings, _caches(tmp_path, settings))

    assert len(list((tmp_path / "run").glob("*.safetensors"))) == 3  # one of latents


def test_other_images_are_never_trained_on_from_the_cache(tiny: Bench, tmp_path: Path) -> None:
    """The same names and captions, other pixels."""
    _train(tiny, DISK, _caches(tmp_path, DISK))
    folder = write_images(tmp_path / "images", 8)
    Image.new("RGB", (20, 20), "red").save(folder / "00.png")
    images = ConceptImages.load(folder, size=tiny.base.image_size, noun=NOUN, held_out=2)

    trained = _train(tiny, DISK, _caches(tmp_path, DISK), images=images)

    assert _same(trained, _train(tiny, DISK, images=images))


def test_the_size_of_the_cache_is_known_before(tiny: Bench, tmp_path: Path) -> None:
    """Two shapes, a mask, copies, class images: foretold within a kilobyte a file."""
    base = tiny.base
    folder = _shapes(tmp_path / "images", base.image_size)
    images = ConceptImages.load(folder, size=base.image_size, noun=NOUN, step=base.image_step)
    settings = replace(PRIOR, cache="disk", jitters=2, flip=True, null_images=3)

    foretold = CacheSize.of(base, tiny.spec, images, settings)

    _train(tiny, settings, _caches(tmp_path, settings), images=images)
    for name, bytes_ in (("run", foretold.run_bytes), ("class", foretold.class_bytes)):
        files = list((tmp_path / name).iterdir())
        assert 0 <= sum(path.stat().st_size for path in files) - bytes_ < 1_000 * len(files)
    assert CacheSize.of(base, tiny.spec, images, SETTINGS) == CacheSize(0, 0)


def test_a_disk_too_small_is_refused_with_both_figures_and_the_ways_out(tmp_path: Path) -> None:
    """A petabyte is needed: nothing is leased for it."""
    settings = replace(DISK, prior_weight=1.0)

    with pytest.raises(OrthoFedError, match=r"1000000000000100 bytes needed for .*, \d+ free") as e:
        CacheSize(10**15, 100).check(tmp_path / "home", settings)

    assert e.value.code == "disk-too-small"
    assert "no slot was leased" in e.value.why
    assert 'set cache = "memory"' in e.value.fix
    assert "set null_states = 1" in e.value.fix
    assert "set prior_images = 50" in e.value.fix
    CacheSize(100, 100).check(tmp_path / "home", settings)


def test_class_images_meet_noise_of_their_own(tiny: Bench) -> None:
    """Not that of the concept's images in the same pass; asked for by the noun, as whole images."""
    tokens = LearnedTokens.from_noun(tiny.base, TRIGGERS, NOUN, seed=0)

    made = Material.made(
        *(tiny.base, tiny.spec, tokens, tiny.images, NOUN, PRIOR, Caches.in_memory())
    )

    assert made.prior is not None
    own, other = made.batches.at(0), made.prior.at(0)
    assert own.noise.shape == other.noise.shape
    assert not torch.equal(own.noise, other.noise)
    side = tiny.base.image_size
    assert {framing.numbers for framing in other.framings} == {(side, side, 0, 0, side, side)}
    assert all(NOUN in text and "anna-k7" not in text for text in other.captions)


def test_class_images_are_drawn_once_and_shared_by_concepts(tiny: Bench, tmp_path: Path) -> None:
    """Another concept of the noun, with another seed, finds them; a longer list draws the rest."""
    first = _caches(tmp_path / "one", PRIOR)
    _train(tiny, replace(PRIOR, null_weight=0.0), Caches(first.run, first.classes))
    files = set((tmp_path / "one" / "class").glob("*.safetensors"))
    settings = replace(PRIOR, null_weight=0.0, seed=5, prior_images=9)

    with _counted(tiny.base.family.denoiser) as counts:
        shared = _train(tiny, settings, first)

    assert len(files) == 2  # groups of four
    assert len(set((tmp_path / "one" / "class").glob("*.safetensors")) - files) == 1
    assert counts[0] == 2 + 2 * settings.steps  # one group of two steps; two passes a step
    assert _same(shared, _train(tiny, settings))


def test_the_prior_term_keeps_the_looks_of_the_class(tiny: Bench, tmp_path: Path) -> None:
    """Class images asked for by their noun: what the term asks for is learnt, and else is not."""
    folder = write_images(tmp_path / "class", 6)
    images = ConceptImages.load(
        *(tiny.folder / "images",),
        size=tiny.base.image_size,
        noun=NOUN,
        class_folder=folder,
    )
    told: dict[float, list[float]] = {1e-9: [], 10.0: []}
    for weight, losses in told.items():
        settings = replace(PRIOR, prior_weight=weight, null_weight=0.0, steps=40, image_rate=1e-2)
        train(
            *(tiny.base, tiny.spec, 0, TRIGGERS, NOUN, images, settings),
            on_step=lambda step, losses=losses: losses.append(step.prior_loss),
        )

    without, kept = (np.mean(losses[-12:]) for losses in told.values())
    assert told[1e-9][0] == told[10.0][0]
    assert kept < 0.996 * without  # the draws are the same


def test_the_owners_own_class_images_take_the_place_of_drawn_ones(
    tiny: Bench, tmp_path: Path
) -> None:
    """Nothing is drawn; they decide the run, and the path to them does not."""
    folder = write_images(tmp_path / "class", 5)
    (folder / "00.txt").write_text("a red fox on a tree")
    base, settings = tiny.base, replace(PRIOR, null_weight=0.0, prior_folder=str(folder))
    arguments = {"size": base.image_size, "noun": NOUN, "triggers": ("anna-k7",), "held_out": 2}
    images = ConceptImages.load(tiny.folder / "images", class_folder=folder, **arguments)  # pyright: ignore[reportArgumentType]
    plain = ConceptImages.load(tiny.folder / "images", **arguments)  # pyright: ignore[reportArgumentType]

    with _counted(base.family.denoiser) as counts:
        own = _train(tiny, settings, images=images)

    assert counts == [2 * settings.steps]
    assert not _same(own, _train(tiny, settings, images=plain))

    def identity(images: ConceptImages, path: str) -> str:
        told = replace(settings, prior_folder=path)
        return identity_of(tiny.spec, 0, TRIGGERS, NOUN, images, told)

    assert identity(images, "a") == identity(images, "b") != identity(plain, "a")


def test_a_class_image_that_is_called_by_the_trigger_is_an_error(tmp_path: Path) -> None:
    """It would teach that others of the class are the concept."""
    folder = write_images(tmp_path / "class", 5)
    images = write_images(tmp_path / "images", 5)
    (folder / "02.txt").write_text("a fox like Anna-k7")

    with pytest.raises(InputError, match=r"02\.png names anna-k7") as caught:
        ConceptImages.load(images, size=16, noun=NOUN, triggers=("anna-k7",), class_folder=folder)

    assert caught.value.code == "class-caption-with-trigger"
