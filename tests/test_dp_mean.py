"""`--dp eps=8 --dp-mode mean`: one vector an image, cut, averaged, noise once (security 9.3)."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orthofed.client import noisy_gradient as module
from orthofed.client.checkpoint import TrainingSaves
from orthofed.client.dp_draws import DpDraws
from orthofed.client.dp_mean import Moves
from orthofed.client.dp_plan import check_floor, noise_to_signal, num_sent, planned
from orthofed.client.gaussian_accountant import gaussian_epsilon, least_gaussian_sigma_milli
from orthofed.client.packing import packed
from orthofed.client.score import Scorer, phrase_of
from orthofed.client.step import Step
from orthofed.client.tokens import LearnedTokens
from orthofed.client.trained import Trained
from orthofed.client.training import identity_of, train
from orthofed.client.training_settings import TrainingSettings
from orthofed.client.trigger import Trigger
from orthofed.client.variant import Variant
from orthofed.core.dp_claim import DpClaim
from orthofed.core.errors import InputError, VerificationFailed
from orthofed.core.layout import ContributionLayout

from .seeded import Bug
from .tiny_concept import NOUN, SETTINGS, Bench, bench

TRIGGERS = [Trigger("anna-k7")]
MEAN = DpClaim(
    clip_milli=500,
    delta_e12=10**10,
    eps_milli=8_000,
    images=6,
    q_ppm=10**6,
    sigma_milli=500,
    steps=1,
    mechanism="mean",
    accountant="gaussian",
)
CLIP = 0.5
PRIVATE = replace(SETTINGS, dp_epsilon=8.0, dp_mode="mean", null_images=0, steps=4)
LIKE = [torch.zeros(3, 2), torch.zeros(4)]


class NoNoise(DpDraws):
    """The control: everything but the noise."""

    def normal(self, count: int) -> np.ndarray:
        return np.zeros(count)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench(tmp_path_factory.mktemp("mean"))


def _train(tiny: Bench, **changes: Any) -> Trained:
    told = {"settings": PRIVATE, "dp": MEAN, "images": tiny.images, **changes}
    return train(tiny.base, tiny.spec, 0, TRIGGERS, NOUN, **told)


def _summed(rows: np.ndarray) -> np.ndarray:
    """Return the released sum of ``rows``, one an image, without noise."""
    tensor = torch.from_numpy(rows.astype(np.float32))
    parts = [tensor[:, :6].reshape(-1, 3, 2), tensor[:, 6:]]
    found = module.noisy_gradient(Moves(parts), MEAN, NoNoise(), LIKE)
    return torch.cat([part.flatten() for part in found]).double().numpy() * MEAN.images


SIZES = st.sampled_from([0.0, 1e-30, 1e-3, CLIP, 1.0, 1e6, 1e30, math.inf, math.nan])


@given(st.integers(0, 2**32 - 1), st.lists(SIZES, min_size=1, max_size=6))
def test_one_image_more_moves_the_sum_by_the_clip_at_most(seed: int, sizes: list[float]) -> None:
    """Whatever any image says, infinities and no numbers too: ||S' - S|| <= C."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((len(sizes), 10)) * np.array(sizes)[:, None]

    whole, without = _summed(rows), _summed(rows[:-1]) if len(rows) > 1 else np.zeros(10)

    assert np.isfinite(whole).all()
    assert np.linalg.norm(whole - without) <= CLIP * (1 + 1e-6)


def test_a_seeded_bug_that_cuts_no_move_is_caught() -> None:
    """The property above sees it: a long move comes through whole."""
    rows = np.full((1, 10), 40.0)

    with Bug.named("dp-move-not-cut").everywhere():
        found = _summed(rows)

    assert np.linalg.norm(found) > 100 * CLIP
    assert np.linalg.norm(_summed(rows)) <= CLIP


def test_a_longer_move_is_cut_and_a_shorter_one_stays() -> None:
    """The mean of what is left: a direction each, and shorter ones say how short."""
    rows = np.zeros((2, 10))
    rows[0, 0], rows[1, 7] = 40.0, 0.2

    found = _summed(rows)

    assert found[0] == pytest.approx(CLIP, rel=1e-5)
    assert found[0] <= CLIP
    assert found[7] == pytest.approx(0.2, rel=1e-6)


def test_the_noise_has_the_promised_deviation() -> None:
    """Sigma C / images in each of 400,000 entries, normal, once; two releases share none of it."""
    count = 400_000
    moves, like = Moves([torch.zeros(3, count)]), [torch.zeros(count)]
    claim = replace(MEAN, images=30, sigma_milli=443)

    first, again = (
        module.noisy_gradient(moves, claim, DpDraws(), like)[0].numpy() for _ in range(2)
    )

    wanted = 0.443 * CLIP / 30
    assert first.std() == pytest.approx(wanted, rel=0.005)
    assert abs(first.mean()) < 5 * wanted / math.sqrt(count)
    assert stats.kstest(first[:50_000] / wanted, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(first, again)[0, 1]) < 0.01


@pytest.mark.parametrize(("eps", "delta"), [(8.0, 1 / 300), (8.0, 1e-3), (3.0, 1e-4), (0.5, 1e-2)])
def test_the_noise_is_the_least_that_one_gaussian_needs(eps: float, delta: float) -> None:
    """Balle and Wang's delta at our sigma is below the claim's, and above it a thousandth lower."""

    def lost(sigma: float) -> float:
        near = stats.norm.cdf(1 / (2 * sigma) - eps * sigma)
        return float(near - math.exp(eps) * stats.norm.cdf(-1 / (2 * sigma) - eps * sigma))

    delta_e12 = round(delta * 1e12)
    milli = least_gaussian_sigma_milli(delta_e12=delta_e12, eps_milli=round(eps * 1e3))

    assert lost(milli / 1e3) <= delta < lost((milli - 1) / 1e3)
    assert gaussian_epsilon(sigma_milli=milli, delta_e12=delta_e12) <= eps


def test_the_table_of_small_sets_is_half_of_what_stands_there() -> None:
    """security.md 9.3 has .82 at 30 images and .27 at 100 for 768 numbers: to *replace* an image.

    The unit claimed is to add or remove one, which moves the sum by C and not by 2 C.
    """
    settings = TrainingSettings(dp_epsilon=8.0, dp_mode="mean")

    ratios = [noise_to_signal(planned(settings, n), 768) for n in (30, 100)]

    assert ratios == pytest.approx([0.82 / 2, 0.27 / 2], rel=0.03)


def test_a_plan_of_one_mean_draws_every_image_once(tiny: Bench) -> None:
    """The claim is exact and follows from the rounded count; p is the vectors alone."""
    settings = TrainingSettings(dp_epsilon=8.0, dp_mode="mean", dp_move=0.25)
    layout = ContributionLayout(tiny.spec, (2,))

    claim = planned(settings, 39)

    assert claim == planned(settings, 30)
    assert (claim.mechanism, claim.accountant, claim.q_ppm, claim.steps) == (
        *("mean", "gaussian"),
        *(10**6, 1),
    )
    assert (claim.images, claim.clip_milli, claim.delta_e12) == (30, 250, 10**12 // 300)
    assert DpClaim.from_body(claim.body()) == claim
    assert "(exact, one Gaussian)" in claim.said
    assert num_sent(layout, "mean") == 2 * 48 < num_sent(layout)


def test_too_few_images_and_too_many_numbers_are_refused() -> None:
    """29 images never; 30 for ten thousand numbers: the ratio, the bound and the way out."""
    settings = TrainingSettings(dp_epsilon=8.0, dp_mode="mean")
    with pytest.raises(InputError, match="29 images to train on, at least 30") as few:
        planned(settings, 29)
    with pytest.raises(InputError, match=r"noise/signal 1.5 in the best case") as wide:
        check_floor(planned(settings, 30), 10_000)
    with pytest.raises(InputError, match="noise/signal") as trained:
        check_floor(planned(replace(settings, dp_mode="sgd"), 60), 1_500_000)
    with pytest.raises(InputError, match=r"ema_decay = 0\.9 together with dp_epsilon = 8"):
        planned(replace(settings, ema_decay=0.9), 60)

    assert few.value.code == wide.value.code == "dp-below-the-floor"
    assert "fewer --vectors" in wide.value.fix
    assert "--dp-mode mean" in trained.value.fix


def test_a_claim_that_is_neither_is_refused() -> None:
    """A mean of two steps, of some images, or with the other accountant says nothing exact."""
    for wrong in ({"steps": 2}, {"q_ppm": 500_000}, {"accountant": "rdp"}, {"mechanism": "dp-sgd"}):
        with pytest.raises(VerificationFailed):
            DpClaim.from_body({**MEAN.body(), **wrong})


def test_only_the_words_are_taught_and_no_two_runs_are_alike(tiny: Bench) -> None:
    """A is zero in every entry and is packed as such; the vectors are noisy in every one."""
    first, again = _train(tiny), _train(tiny)

    assert first.dp == MEAN
    assert all(not a.any() for a in first.a.values())
    for key, rows in first.embeddings.items():
        assert not np.isclose(rows, again.embeddings[key], rtol=1e-6, atol=0).any()
    made = packed(first, tiny.spec)
    assert not any(t.q.any() for name, t in made.items() if name.startswith("a."))
    assert len(first.losses) == PRIVATE.steps


def test_the_moves_are_cut_before_the_mean(tiny: Bench) -> None:
    """Without noise worth the name no run ends farther from the start than C; with it, as said."""
    start = LearnedTokens.from_noun(tiny.base, TRIGGERS, NOUN, seed=PRIVATE.seed)
    begun = start.vectors["text_encoder"].detach().numpy()
    fast = replace(PRIVATE, token_rate=1.0)

    quiet = _train(tiny, dp=replace(MEAN, sigma_milli=1), settings=fast)
    loud = _train(tiny, dp=replace(MEAN, sigma_milli=10**6), settings=fast)

    moved = np.linalg.norm(quiet.embeddings["text_encoder", 0] - begun)
    noise = loud.embeddings["text_encoder", 0] - begun
    assert 0.01 * CLIP < moved <= CLIP * 1.01
    assert noise.std() == pytest.approx(1_000 * CLIP / MEAN.images, rel=0.25)


def test_without_noise_the_words_learn_what_the_images_show(tiny: Bench) -> None:
    """Nearly no noise: the loss on held-out images falls below the noun's."""
    scorer = Scorer.on(tiny.base, tiny.images.held_out, num_draws=64)
    trained = _train(
        tiny,
        dp=replace(MEAN, sigma_milli=1, clip_milli=3_000),
        settings=replace(PRIVATE, steps=24, token_rate=5e-2),
    )
    variant = Variant.of_contribution(tiny.spec, 0, TRIGGERS, packed(trained, tiny.spec))

    assert scorer.loss(variant, phrase_of(TRIGGERS)) < scorer.base_loss(NOUN)


class _StoppedError(Exception):
    """The process ends here."""


def test_a_stopped_run_begins_anew_and_a_finished_one_is_not_repeated(
    tiny: Bench, tmp_path: Path
) -> None:
    """Half of the moves are no mean: step 0 again; the mean that is saved is what leaves."""
    named = (tiny.spec, 0, TRIGGERS, NOUN, tiny.images, PRIVATE, MEAN)
    saves = TrainingSaves(tmp_path, identity_of(*named))

    def stop(step: Step) -> None:
        if step.number == 2:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        _train(tiny, saves=saves, on_step=stop)
    numbers = list[int]()
    first = _train(tiny, saves=saves, on_step=lambda step: numbers.append(step.number))
    again = _train(tiny, saves=saves)

    assert numbers == [1, 2, 3, 4]
    assert (first.resumed_at, again.resumed_at) == (0, PRIVATE.steps)
    for key, rows in first.embeddings.items():
        assert np.array_equal(rows, again.embeddings[key])
