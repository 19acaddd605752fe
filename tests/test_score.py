"""The score: fixed draws, three models, and a release rescaled to any lambda."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from orthofed.client.draws import Draws, batch_at, generator, stratified
from orthofed.client.packing import packed
from orthofed.client.score import Scorer, phrase_of, score
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.errors import InputError
from orthofed.core.quantise import Quantised

from .tiny_concept import NOUN, Bench, bench
from .tiny_release import write_release

NAMES = ("anna-k7", "rex-p2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("score"))


@pytest.fixture(scope="module")
def contributions(tiny: Bench) -> list[tuple[int, str, dict[str, Quantised]]]:
    return [
        (slot, name, packed(tiny.train(slot, name, steps=20, seed=slot), tiny.spec))
        for slot, name in enumerate(NAMES)
    ]


@pytest.fixture(scope="module")
def scorer(tiny: Bench) -> Scorer:
    return Scorer.on(tiny.base, tiny.images.held_out)


def test_the_score_has_at_least_256_draws_evenly_spread(scorer: Scorer) -> None:
    """Each held-out image meets every part of the noise schedule equally often."""
    draws = scorer.draws

    assert len(draws.noise) >= 256
    counts = torch.bincount(draws.images)
    assert counts.min() == counts.max()
    for image in range(len(scorer.items)):
        times = draws.timesteps[draws.images == image]
        quarters = torch.bincount(times // 250, minlength=4)
        assert quarters.max() - quarters.min() <= 1


def test_the_draws_are_the_same_every_time(tiny: Bench, scorer: Scorer) -> None:
    """Base, single and merged are compared on equal noise, in this process or another."""
    again = Scorer.on(tiny.base, tiny.images.held_out)
    other = Draws.fixed(256, like=scorer.latents, below=1000, seed=1)

    assert torch.equal(again.draws.noise, scorer.draws.noise)
    assert torch.equal(again.draws.timesteps, scorer.draws.timesteps)
    assert not torch.equal(other.noise, scorer.draws.noise)


def test_base_single_and_merged_are_told_apart(
    tiny: Bench,
    scorer: Scorer,
    contributions: list[tuple[int, str, dict[str, Quantised]]],
    tmp_path: Path,
) -> None:
    """One score: the single model beats the base; each lambda has its own merged loss."""
    release = write_release(tmp_path, tiny.spec, contributions)
    slot, name, tensors = contributions[0]

    result = score(
        scorer,
        tiny.spec,
        slot,
        [Trigger(name)],
        NOUN,
        tensors,
        release=release,
        lambdas=(1.0, 0.6),
    )

    assert result.loss_single < result.loss_base
    assert result.loss_merged[1.0] != result.loss_merged[0.6]
    gain = result.loss_base - result.loss_single
    expected = (result.loss_base - result.loss_merged[1.0]) / gain
    assert result.retention(1.0) == pytest.approx(expected)


def test_a_merge_of_one_concept_keeps_all_of_it(
    tiny: Bench,
    scorer: Scorer,
    contributions: list[tuple[int, str, dict[str, Quantised]]],
    tmp_path: Path,
) -> None:
    """Alone in a release at lambda 1, merged is single up to fp16 rounding."""
    slot, name, tensors = contributions[0]
    release = write_release(tmp_path, tiny.spec, contributions[:1])

    result = score(scorer, tiny.spec, slot, [Trigger(name)], NOUN, tensors, release=release)

    assert result.retention(1.0) == pytest.approx(1.0, abs=0.02)


def test_the_lambda_of_the_release_does_not_matter_for_a_rescaled_one(
    tiny: Bench,
    contributions: list[tuple[int, str, dict[str, Quantised]]],
    tmp_path: Path,
) -> None:
    """Merged at 0.6 or at 1.0 and scored at 0.8: the same model, up to the file's rounding."""
    models = [
        Variant.of_release(
            write_release(tmp_path / str(x), tiny.spec, contributions, lambda_1024=x, dtype="F32"),
            tiny.spec,
            lambda_=0.8,
        )
        for x in (614, 1024)
    ]

    for path, residual in models[0].residuals.items():
        np.testing.assert_allclose(
            residual.up @ residual.down,
            models[1].residuals[path].up @ models[1].residuals[path].down,
            atol=1e-7,
        )


def test_a_release_is_the_sum_of_its_contributions(
    tiny: Bench,
    contributions: list[tuple[int, str, dict[str, Quantised]]],
    tmp_path: Path,
) -> None:
    """What a consumer gets equals both single models laid side by side."""
    singles = [
        replace(Variant.of_contribution(tiny.spec, slot, [Trigger(name)], tensors), lambda_=0.6)
        for slot, name, tensors in contributions
    ]
    release = write_release(tmp_path, tiny.spec, contributions, dtype="F32")

    merged = Variant.of_release(release, tiny.spec, lambda_=0.6)

    total = Variant.sum_of(singles)
    assert sorted(merged.vectors) == sorted(total.vectors)
    for path, residual in merged.residuals.items():
        np.testing.assert_allclose(
            residual.up @ residual.down,
            total.residuals[path].up @ total.residuals[path].down,
            atol=1e-7,
        )


def test_a_variant_leaves_the_base_as_it_was(
    tiny: Bench, scorer: Scorer, contributions: list[tuple[int, str, dict[str, Quantised]]]
) -> None:
    """Scoring a single model in between does not change the base's score by one bit."""
    before = scorer.base_loss(NOUN)
    slot, name, tensors = contributions[1]
    single = Variant.of_contribution(tiny.spec, slot, [Trigger(name)], tensors)

    scorer.loss(single, phrase_of([Trigger(name)]))

    assert scorer.base_loss(NOUN) == before


@pytest.mark.parametrize("missing", ["info.json", "lora/tiny-r0001.safetensors"])
def test_a_release_with_a_file_missing_is_named(
    tiny: Bench,
    contributions: list[tuple[int, str, dict[str, Quantised]]],
    tmp_path: Path,
    missing: str,
) -> None:
    """A folder that was not pulled whole."""
    release = write_release(tmp_path, tiny.spec, contributions)
    (release / missing).unlink()

    with pytest.raises(InputError) as caught:
        Variant.of_release(release, tiny.spec)

    assert caught.value.code == "release-unusable"


def test_every_epoch_shows_each_image_once() -> None:
    """Twelve images in batches of eight: three steps are two epochs."""
    shown = [i for step in range(3) for i in batch_at(step, seed=0, count=12, batch=8)]

    assert sorted(shown[:12]) == sorted(shown[12:]) == list(range(12))
    assert shown[:12] != shown[12:]


def test_stratified_timesteps_hit_every_stratum() -> None:
    """One timestep a stratum, never out of range."""
    times = stratified(8, below=1000, random=generator(0, "test"))

    assert (times // 125).tolist() == list(range(8))
