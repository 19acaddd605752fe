"""Training under differential privacy: what it learns, what it may not see, how it goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orthofed.client.adapter import Adapter
from orthofed.client.augment import augmented
from orthofed.client.caches import Caches
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.dataset import ConceptImages
from orthofed.client.dp_draws import DpDraws
from orthofed.client.image_records import ImageRecords
from orthofed.client.material import Material
from orthofed.client.noisy_gradient import noisy_gradient
from orthofed.client.passes import Passes
from orthofed.client.per_image import parameters
from orthofed.client.probe import probe
from orthofed.client.score import Scorer
from orthofed.client.step import Step
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.trigger import Trigger
from orthofed.core.dp_claim import DpClaim

from .tiny_concept import NOUN, SETTINGS, Bench, bench, write_images

TRIGGERS = [Trigger("anna-k7")]
CLAIM = DpClaim(
    clip_milli=1_000,
    delta_e12=10**9,
    eps_milli=8_000,
    images=6,
    q_ppm=500_000,
    sigma_milli=500,
    steps=6,
)
PRIVATE = replace(SETTINGS, dp_epsilon=8.0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("private"))


def _train(tiny: Bench, **changes: object) -> Trained:
    told = {"settings": PRIVATE, "dp": CLAIM, "images": tiny.images, **changes}
    return train(tiny.base, tiny.spec, 0, TRIGGERS, NOUN, **told)  # pyright: ignore[reportArgumentType]


def _material(tiny: Bench, images: ConceptImages, tokens: LearnedTokens) -> Material:
    caches = Caches.in_memory()
    return Material.made(tiny.base, tiny.spec, tokens, images, NOUN, PRIVATE, caches)


def _records(tiny: Bench, images: ConceptImages, **changes: object) -> ImageRecords:
    adapter = Adapter(tiny.base, tiny.spec, 0)
    tokens = LearnedTokens.from_noun(tiny.base, TRIGGERS, NOUN, seed=0)
    settings = replace(PRIVATE, **changes)  # pyright: ignore[reportArgumentType]
    passes = Passes(tiny.base, settings, _material(tiny, images, tokens))
    return ImageRecords(passes, adapter, tokens, images.train, DpDraws())


def test_everything_that_leaves_is_noisy_and_no_two_runs_are_alike(tiny: Bench) -> None:
    """The same seed thrice: the noise is the system's, so A and vectors differ in every entry.

    Of thousands of entries one of two runs comes close to its twin now and then; an entry without
    noise is the same in all three.
    """
    first, *others = (_train(tiny) for _ in range(3))

    def as_in_all(entries: np.ndarray, *runs: np.ndarray) -> bool:
        alike = [np.isclose(entries, run, rtol=1e-6, atol=0) for run in runs]
        return bool(np.logical_and.reduce(alike).any())

    assert first.dp == CLAIM
    for path, a in first.a.items():
        assert (a != 0).all()
        assert not as_in_all(a, *(run.a[path] for run in others))
    for key, rows in first.embeddings.items():
        assert not as_in_all(rows, *(run.embeddings[key] for run in others))
    assert len(first.losses) == CLAIM.steps


def test_without_noise_it_learns_what_the_images_show(tiny: Bench) -> None:
    """Nearly no noise, all images in every step: the loss on held-out images falls."""
    scorer = Scorer.on(tiny.base, tiny.images.held_out, num_draws=64)
    quiet = replace(CLAIM, sigma_milli=1, q_ppm=10**6, steps=30)
    trained = _train(tiny, dp=quiet, settings=replace(PRIVATE, steps=30))
    adapter = Adapter(tiny.base, tiny.spec, 0)
    adapter.load(trained.a)
    vectors = {"anna-k7": {"text_encoder": trained.embeddings["text_encoder", 0]}}
    tokens = LearnedTokens.of(tiny.base, vectors)

    with adapter.attached(), tokens.attached():
        loss = scorer.loss_as_is(tokens, tokens.phrase)

    assert loss < 0.995 * scorer.base_loss(NOUN)


def test_a_training_is_never_silently_public(tiny: Bench) -> None:
    """Settings that ask for privacy and a call that forgot the claim do not train."""
    with pytest.raises(AssertionError):
        _train(tiny, dp=None)


def test_one_image_more_changes_nothing_of_the_others(tiny: Bench, tmp_path: Path) -> None:
    """T22: templates, shifted copies and public states are those of the folder without it.

    It comes first in name order, so whatever counts places or draws in turn would move.
    """
    folder = write_images(tmp_path / "images", 8)
    for caption in folder.glob("*.txt"):
        caption.unlink()
    told = {"size": tiny.base.image_size, "noun": NOUN, "apart": True}
    without = ConceptImages.load(folder, **told)
    (write_images(tmp_path / "nine", 9) / "08.png").rename(folder / "+.png")
    more = ConceptImages.load(folder, **told)
    jittered = replace(PRIVATE, jitters=3, jitter_colour=0.2)

    def copies(images: ConceptImages) -> set[tuple[str, bytes, str]]:
        items = augmented(images.train, jittered)
        return {(item.name, item.digest, item.caption) for item in items}

    assert copies(without) < copies(more)
    assert len(more.train) == len(without.train) + 1
    tokens = LearnedTokens.from_noun(tiny.base, TRIGGERS, NOUN, seed=0, strangers=2)
    states = [_material(tiny, images, tokens).public for images in (without, more)]
    assert list(states[0]) == [tuple(tiny.base.latent_shape)]
    for one, other in zip(states[0].values(), states[1].values(), strict=True):
        assert one.prompts == other.prompts
        assert torch.equal(one.noisy, other.noisy)


def test_records_are_the_images_with_all_their_copies(tiny: Bench) -> None:
    """Each record drawn gives one gradient, from any of its copies; shapes are those that leave."""
    records = _records(tiny, tiny.images, batch=4)
    leaves = parameters(records.adapter, records.tokens)

    rows = list(records.gradients([0, 1, 2, 3, 5]))

    assert records.count == 6
    assert [len(parts[0]) for parts in rows] == [4, 1]
    assert [tuple(p.shape) for p in leaves] == [tuple(part.shape[1:]) for part in rows[0]]
    assert len(records.losses) == 5


def test_an_image_whose_gradient_is_no_number_stops_nothing(tiny: Bench) -> None:
    """A stop would tell of it: the run goes on as if it had not been drawn."""
    records = _records(tiny, tiny.images)
    records.passes.material.batches.buckets[0].latents[2] = torch.nan
    (rows,) = records.gradients([1, 2])
    assert any(part[1].isnan().any() for part in rows)
    leaves = parameters(records.adapter, records.tokens)

    found = noisy_gradient(records, replace(CLAIM, q_ppm=10**6), DpDraws(), leaves)

    assert all(part.isfinite().all() for part in found)


def test_a_stopped_run_goes_on_to_the_very_number_of_steps(tiny: Bench, tmp_path: Path) -> None:
    """Six noisy gradients lead to A, three before the stop and three behind it; no more.

    A save belongs to its claim: with another epsilon nothing is taken over.
    """
    told = (tiny.spec, 0, TRIGGERS, NOUN, tiny.images, PRIVATE)
    saves = TrainingSaves(tmp_path / "saves", identity_of(*told, CLAIM))
    seen: list[int] = []

    def stop(step: Step) -> None:
        seen.append(step.number)
        if step.number == 3 and len(seen) == 3:
            raise KeyError

    with pytest.raises(KeyError):
        _train(tiny, saves=saves, on_step=stop)
    trained = _train(tiny, saves=saves, on_step=stop)

    assert seen == [1, 2, 3, 4, 5, 6]
    assert trained.resumed_at == 3
    assert _train(tiny, saves=saves, on_step=stop).resumed_at == CLAIM.steps
    other = replace(CLAIM, eps_milli=3_000)
    assert identity_of(*told, other) != saves.identity


def test_the_dry_run_counts_the_images_that_a_step_draws(tiny: Bench) -> None:
    """Of a thousand images a tenth is drawn: a step takes the time of 25 passes of four."""
    many = replace(tiny.images, train=tiny.images.train * 167)
    few = replace(CLAIM, q_ppm=4_000)
    often = replace(CLAIM, q_ppm=100_000)

    times = [
        probe(tiny.base, tiny.spec, TRIGGERS, NOUN, many, PRIVATE, claim).seconds_per_step
        for claim in (few, often)
    ]

    assert times[1] > 3 * times[0]  # 20 times, were this machine quiet
