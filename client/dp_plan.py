"""What is fixed before a DP training begins: the claim that it will make good, or a refusal.

    images  = the owner's count, rounded down to one digit (1,734 -> 1,000): published
    q       = dp_batch / images          delta = 1 / (10 images)
    sigma   = the least that gives dp_epsilon over `steps` steps (dp_accountant.py)
    ratio   = sigma sqrt(p) / (q images sqrt(steps))         p numbers leave

One mean (``dp_mode``, dp_mean.py): q = 1, steps = 1, sigma exact (gaussian_accountant.py), C is
``dp_move``, and p counts the token vectors alone.

The ratio is noise over signal in the sum of all steps, in the best case: all images' gradients
agree. Above 1 the noise is larger than all that there is to learn, so
nothing is leased: it is refused, not warned of. Laws: the claim depends on the settings and on the
rounded count alone, so one image more or less changes nothing but its own part of the sums; no
setting weakens it, and what would send more than it covers is refused here. Source: security.md
9.3, whose table tests/test_dp_plan.py computes again.
"""

import math
from typing import Final

from ..core.dp_claim import DpClaim, Mechanism
from ..core.errors import InputError
from ..core.layout import ContributionLayout
from .dp_accountant import least_sigma_milli
from .gaussian_accountant import least_gaussian_sigma_milli
from .training_settings import TrainingSettings

LEAST_IMAGES: Final = 30
"""Below it one image more can also change which ones are held out (dataset.py), which is two."""
MOST_RATIO: Final = 1.0
ADVISED_RATIO: Final = 0.3
_WAYS: Final[dict[Mechanism, str]] = {
    "dp-sgd": "use more images (hundreds, or thousands for many layers), or join a federation of "
    "fewer layers or a lower rank, or add --dp-mode mean, which learns the words alone, ",
    "mean": "use more images or fewer --vectors, ",
}
_SHARE: Final = 8  # of the images, where dp_batch is 0; between the next two
_LEAST_BATCH: Final = 25
_MOST_BATCH: Final = 256


def planned(settings: TrainingSettings, num_images: int) -> DpClaim:
    """Return what a training with these settings on so many images will claim.

    Raises InputError: too few images, a setting that would break the claim, or dp-accounting is not
    installed.
    """
    _check_settings(settings)
    if num_images < LEAST_IMAGES:
        raise InputError(
            f"{num_images} images to train on, at least {LEAST_IMAGES} are needed with --dp",
            why="what is left of so few under enough noise shows nothing; nothing was sent",
            fix="use more images (hundreds), or leave --dp away and read what a published "
            "concept reveals",
            code="dp-below-the-floor",
        )
    images = rounded_count(num_images)
    delta_e12, eps_milli = 10**12 // (10 * images), round(settings.dp_epsilon * 1e3)
    if settings.is_mean:
        return DpClaim(
            clip_milli=round(settings.dp_move * 1e3),
            delta_e12=delta_e12,
            eps_milli=eps_milli,
            images=images,
            q_ppm=1_000_000,
            sigma_milli=least_gaussian_sigma_milli(delta_e12=delta_e12, eps_milli=eps_milli),
            steps=1,
            mechanism="mean",
            accountant="gaussian",
        )
    batch = _batch(settings, images, num_images)
    q_ppm = round(batch * 1_000_000 / images)
    sigma_milli = least_sigma_milli(
        q_ppm=q_ppm, steps=settings.steps, delta_e12=delta_e12, eps_milli=eps_milli
    )
    return DpClaim(
        clip_milli=round(settings.dp_clip * 1e3),
        delta_e12=delta_e12,
        eps_milli=eps_milli,
        images=images,
        q_ppm=q_ppm,
        sigma_milli=sigma_milli,
        steps=settings.steps,
    )


def _batch(settings: TrainingSettings, images: int, num_images: int) -> int:
    """Return how many images a step draws on average. Raises InputError: more than there are."""
    batch = settings.dp_batch or min(images, max(_LEAST_BATCH, min(images // _SHARE, _MOST_BATCH)))
    if batch > images:
        raise InputError(
            f"dp_batch = {batch} of {num_images} images, which count as {images}",
            why="a step takes each image once at most",
            fix=f"set dp_batch to {images} or less",
            code="dp-batch-too-large",
        )
    return batch


def rounded_count(count: int) -> int:
    """Return ``count`` rounded down to one digit and zeros.

    >>> [rounded_count(count) for count in (7, 10, 99, 100, 1_734)]
    [7, 10, 90, 100, 1000]
    """
    unit = 10 ** (len(str(count)) - 1)
    return count // unit * unit


def num_sent(layout: ContributionLayout, mechanism: Mechanism = "dp-sgd") -> int:
    """Return p: the numbers of a contribution that are trained, A and token vectors.

    Of a mean the vectors alone, whose A is zero. Probes follow from these, so they count nothing.
    """
    parts = ("embed.",) if mechanism == "mean" else ("a.", "embed.")
    trained = (t for t in layout.content if t.name.startswith(parts))
    return sum(math.prod(tensor.shape) for tensor in trained)


def noise_to_signal(claim: DpClaim, numbers: int) -> float:
    """Return noise over signal of ``numbers`` numbers, in the best case."""
    drawn = claim.q_ppm / 1e6 * claim.images
    return claim.sigma_milli / 1e3 * math.sqrt(numbers) / (drawn * math.sqrt(claim.steps))


def check_floor(claim: DpClaim, numbers: int) -> float:
    """Return the ratio. Raises InputError: it is above 1, so nothing would be recognisable."""
    ratio = noise_to_signal(claim, numbers)
    if ratio > MOST_RATIO:
        raise InputError(
            f"noise/signal {ratio:.2g} in the best case, at most {MOST_RATIO:g} is allowed: "
            f"{claim.images} images, {numbers:,} numbers to send, epsilon {claim.eps_milli / 1e3:g}"
            f" over {claim.steps} steps",
            why="what is sent would be noise and the concept would not show; nothing was sent",
            fix=_WAYS[claim.mechanism] + "or leave --dp away and read what a published concept "
            "reveals",
            code="dp-below-the-floor",
        )
    return ratio


def _check_settings(settings: TrainingSettings) -> None:
    """Refuse what would send more than the claim covers. Raises InputError."""
    wrong = {
        f"ema_decay = {settings.ema_decay:g}": (
            settings.is_mean and settings.ema_decay > 0,
            "one mean is made once, and there is nothing to average",
        ),
        "wandb = true": (settings.wandb, "the losses it sends have no noise"),
        f"prior_folder = {settings.prior_folder!r}": (
            bool(settings.prior_weight and settings.prior_folder),
            "those images are private too, and nothing limits what each of them adds",
        ),
        "precision = 'fp16'": (
            settings.precision == "fp16",
            "steps would be skipped by the size of a gradient, which has no noise",
        ),
        f"accumulation = {settings.accumulation}": (
            settings.accumulation > 1,
            "a step draws dp_batch images by chance and takes them `batch` at a time already",
        ),
    }
    for what, (is_so, why) in wrong.items():
        if is_so:
            name = what.partition(" ")[0]
            raise InputError(
                f"{what} together with dp_epsilon = {settings.dp_epsilon:g}",
                why=why,
                fix=f"leave {name} at its default, or train without --dp",
                code="dp-setting",
            )
