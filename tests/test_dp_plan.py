"""How much noise an epsilon takes, and which data sets are too small for it (security.md 9.3)."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orthofed.client.dp_accountant import epsilon, least_sigma_milli
from orthofed.client.dp_plan import check_floor, noise_to_signal, num_sent, planned, rounded_count
from orthofed.client.training_settings import TrainingSettings
from orthofed.core.dp_claim import DpClaim
from orthofed.core.errors import InputError
from orthofed.core.layout import ContributionLayout

from .tiny_base import tiny_base
from .tiny_concept import tiny_spec

MANY, FEW = 1_500_000, 25_000  # numbers sent
TABLE = [  # images, batch, steps, then at epsilon 8 and 3: sigma, ratio at MANY, at FEW
    (10, 10, 500, (10.1, 55, 7.1), (20.9, 115, 14.8)),
    (100, 25, 500, (3.03, 6.6, 0.86), (6.49, 14, 1.8)),
    (500, 64, 1000, (2.41, 1.5, 0.19), (5.25, 3.2, 0.41)),
    (1000, 128, 1000, (2.49, 0.75, 0.10), (5.47, 1.65, 0.21)),
    (5000, 256, 1500, (1.44, 0.18, 0.02), (2.99, 0.37, 0.05)),
]
ROWS = [
    (images, batch, steps, eps, *figures)
    for images, batch, steps, *both in TABLE
    for eps, figures in zip((8, 3), both, strict=True)
]


def claim(**changes: int) -> DpClaim:
    """Return the table's row for 1,000 images at epsilon 8, changed."""
    found = DpClaim(
        clip_milli=1_000,
        delta_e12=10**8,
        eps_milli=8_000,
        images=1_000,
        q_ppm=128_000,
        sigma_milli=2_487,
        steps=1_000,
    )
    return replace(found, **changes)


@pytest.mark.parametrize(("images", "batch", "steps", "eps", "sigma", "many", "few"), ROWS)
def test_the_floor_table_is_reproduced(  # its columns
    images: int, batch: int, steps: int, eps: int, sigma: float, many: float, few: float
) -> None:
    """Every sigma to its last digit, every ratio from it to its own."""
    q_ppm, delta_e12 = batch * 10**6 // images, 10**12 // (10 * images)
    digit = 0.1 if sigma >= 10 else 0.01

    def at(sigma_milli: int) -> float:
        return epsilon(q_ppm=q_ppm, sigma_milli=sigma_milli, steps=steps, delta_e12=delta_e12)

    assert at(math.ceil(1e3 * (sigma + digit / 2))) <= eps < at(int(1e3 * (sigma - digit / 2)))
    made = claim(q_ppm=q_ppm, images=images, steps=steps, sigma_milli=round(1e3 * sigma))
    assert noise_to_signal(made, MANY) == pytest.approx(many, rel=0.04)
    assert noise_to_signal(made, FEW) == pytest.approx(few, rel=0.04, abs=0.005)


@pytest.mark.parametrize(
    ("q", "sigma", "steps", "published"),
    [
        (0.01, 4.0, 10_000, 1.26),  # arXiv:1607.00133, section 5.1
        (256 / 60_000, 1.3, 3_515, 1.19),  # the MNIST tutorial of TensorFlow Privacy
        (256 / 60_000, 1.1, 14_062, 3.01),
        (256 / 60_000, 0.7, 10_546, 7.10),
    ],
)
def test_the_accountant_agrees_with_published_values(
    q: float, sigma: float, steps: int, published: float
) -> None:
    """The textbook's sum gives what was published; with today's sharper conversion, our figure."""
    delta = 1e-5

    def best(convert: Callable[[float, int], float]) -> float:
        return min(convert(steps * _renyi(q, sigma, order), order) for order in range(2, 200))

    def as_published(divergence: float, order: int) -> float:  # arXiv:1702.07476, proposition 3
        return divergence - math.log(delta) / (order - 1)

    def as_today(divergence: float, order: int) -> float:  # arXiv:2004.00010, proposition 12
        return divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)

    ours = epsilon(
        q_ppm=round(q * 1e6), sigma_milli=round(sigma * 1e3), steps=steps, delta_e12=10**7
    )

    assert best(as_published) == pytest.approx(published, rel=0.01)
    assert ours == pytest.approx(best(as_today), rel=0.01)
    assert ours < published


def _renyi(q: float, sigma: float, order: int) -> float:
    """Return the divergence of one step at a whole order (arXiv:1908.10530, section 3.3)."""
    terms = [
        math.lgamma(order + 1)
        - math.lgamma(k + 1)
        - math.lgamma(order - k + 1)
        + (order - k) * math.log1p(-q)
        + k * math.log(q)
        + k * (k - 1) / (2 * sigma**2)
        for k in range(order + 1)
    ]
    most = max(terms)
    return (most + math.log(sum(math.exp(term - most) for term in terms))) / (order - 1)


def test_the_least_noise_is_enough_and_a_thousandth_less_is_not() -> None:
    """The claim's epsilon is an upper bound for the very integers that are signed."""
    told = {"q_ppm": 500_000, "steps": 20, "delta_e12": 10**9}

    least = least_sigma_milli(**told, eps_milli=3_000)

    assert epsilon(**told, sigma_milli=least) <= 3 < epsilon(**told, sigma_milli=least - 1)


def test_a_plan_follows_from_settings_and_the_rounded_count_alone() -> None:
    """1,000 and 1,999 images make one claim, so a claim tells no count; delta is 1 / (10 N)."""
    settings = TrainingSettings(dp_epsilon=8.0, dp_batch=500, steps=20)

    first, last = planned(settings, 1_000), planned(settings, 1_999)

    assert first == last
    assert (first.images, first.q_ppm, first.delta_e12) == (1_000, 500_000, 10**8)
    assert (first.steps, first.clip_milli, first.eps_milli) == (20, 20, 8_000)
    assert [rounded_count(n) for n in (30, 99, 101, 2_345)] == [30, 90, 100, 2_000]
    assert "(8, 0.0001) per image, add or remove one, for what was sent" in first.said


def test_without_a_batch_size_an_eighth_of_the_images_is_drawn() -> None:
    """Between 25 and 256, as in the table of security.md 9.3, and never more than there are."""
    settings = TrainingSettings(dp_epsilon=8.0, steps=1)

    drawn = [round(planned(settings, n).q_ppm * n / 10**6) for n in (30, 100, 500, 1_000, 5_000)]

    assert drawn == [25, 25, 62, 125, 256]


def test_below_the_floor_nothing_is_leased() -> None:
    """Above 1 is refused with the figure; sets of 3 to 20 images always are."""
    assert check_floor(claim(), MANY) == pytest.approx(0.753, rel=0.01)

    with pytest.raises(InputError, match=r"noise/signal 1.1 in the best case, at most 1") as caught:
        check_floor(claim(), 2 * MANY)

    assert caught.value.code == "dp-below-the-floor"
    assert "nothing was sent" in str(caught.value)
    for images in (3, 10, 20, 29):
        with pytest.raises(InputError, match=f"{images} images to train on, at least 30") as caught:
            planned(TrainingSettings(dp_epsilon=8.0, steps=500), images)
        assert caught.value.code == "dp-below-the-floor"


@pytest.mark.parametrize(
    "changes",
    [
        {"wandb": True},
        {"precision": "fp16"},
        {"accumulation": 2},
        {"prior_weight": 1.0, "prior_folder": "dogs"},
    ],
)
def test_what_would_send_more_than_is_claimed_is_refused(changes: dict[str, object]) -> None:
    """T22: losses sent to a service, steps skipped by what an image is, private class images."""
    name = list(changes)[-1]

    with pytest.raises(InputError, match=f"{name} = .* together with dp_epsilon = 8") as caught:
        planned(TrainingSettings(dp_epsilon=8.0, **changes), 1_000)  # pyright: ignore[reportArgumentType]

    assert caught.value.code == "dp-setting"
    assert f"leave {name} at its default" in caught.value.fix


def test_a_batch_of_more_images_than_there_are_is_refused() -> None:
    """A step takes each image once at most, so a probability above 1 has no meaning."""
    with pytest.raises(InputError, match="dp_batch = 64 of 40 images"):
        planned(TrainingSettings(dp_epsilon=8.0, dp_batch=64), 40)


def test_everything_that_is_trained_counts(tmp_path: Path) -> None:
    """P is every entry of A and of the vectors; probes follow from them."""
    spec = tiny_spec(tiny_base(tmp_path / "base"), rank=2)

    numbers = num_sent(ContributionLayout(spec, (2, 1)))

    assert numbers == sum(2 * layer.out for layer in spec.layers) + 3 * 48
