"""One private step: what one image can move, what the noise is, who is drawn.

Each law is also asked of a seeded bug, which must break it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from orthofed.client import dp_draws
from orthofed.client import noisy_gradient as module
from orthofed.core.basis import integer_block
from orthofed.core.dp_claim import DpClaim

from .seeded import Bug

SHAPES = [(6, 2), (5, 2), (3, 4)]  # two A, then the token vectors
LIKE = [torch.zeros(shape) for shape in SHAPES]
CLIP = 0.5


@dataclass
class Given:
    """Records with the gradients ``rows``: (count, *shape) a parameter."""

    rows: list[Tensor]
    some: int = 3

    @property
    def count(self) -> int:
        return len(self.rows[0])

    def gradients(self, chosen: Sequence[int]) -> Iterator[list[Tensor]]:
        for at in range(0, len(chosen), self.some):
            yield [part[list(chosen[at : at + self.some])] for part in self.rows]


def _random(count: int, size: float, seed: int = 0) -> Given:
    random = torch.Generator().manual_seed(seed)
    return Given([size * torch.randn(count, *shape, generator=random) for shape in SHAPES])


def _claim(**changes: int) -> DpClaim:
    found = DpClaim(
        clip_milli=500,
        delta_e12=10**9,
        eps_milli=8_000,
        images=10,
        q_ppm=10**6,
        sigma_milli=2_000,
        steps=3,
    )
    return replace(found, **changes)


def _draws(seed: int = 0) -> dp_draws.DpDraws:
    return dp_draws.DpDraws(Random(seed).randbytes)  # noqa: S311  # a test that repeats


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts]).double()


def _one_more_moves_the_sum_by_the_clip_at_most() -> None:
    """With the same noise, the sums with and without one image differ by C at most.

    Whatever the image's gradient is: large, small, in A alone, in the vectors alone, no number.
    """
    claim, some = _claim(), _random(9, 1.0)
    for loud in range(-1, len(SHAPES)):
        for size in (1e-3, 1.0, 1e6, np.inf, np.nan):
            extra = _random(1, size if loud < 0 else 0.0, seed=5).rows
            if loud >= 0:
                extra[loud] = torch.full((1, *SHAPES[loud]), float(size))
            more = Given([torch.cat([a, b]) for a, b in zip(some.rows, extra, strict=True)])
            without = _flat(module.noisy_gradient(some, claim, _draws(), LIKE))
            with_it = _flat(module.noisy_gradient(more, claim, _draws(), LIKE))
            expected = claim.q_ppm / 1e6 * claim.images
            assert ((with_it - without) * expected).norm() <= CLIP * (1 + 1e-5)


def _the_noise_is_the_claims_whoever_was_drawn() -> None:
    """Its deviation is sigma C over the expected batch, in every entry, in full and empty draws."""
    like = [torch.zeros(20_000), torch.zeros(7, 3)]
    nothing = Given([torch.zeros(10, *one.shape) for one in like])
    for q_ppm in (10**6, 500_000, 1):
        claim = _claim(q_ppm=q_ppm)
        expected = 2.0 * CLIP / (q_ppm / 1e6 * claim.images)
        for seed in range(4):
            found = module.noisy_gradient(nothing, claim, _draws(seed), like)
            assert found[0].std().item() == pytest.approx(expected, rel=0.03)
            assert abs(found[0].mean().item()) < 0.05 * expected
            assert (found[1] != 0).all()


def _each_image_is_drawn_alone_with_probability_q() -> None:
    """Over many steps the number varies as a binomial one, pairs are independent."""
    count, q_ppm, steps = 40, 250_000, 4_000
    draws, seen = _draws(), np.zeros((steps, count), bool)
    for step in range(steps):
        seen[step, draws.drawn(count, q_ppm)] = True

    share, sizes = q_ppm / 1e6, seen.sum(1)
    error = np.sqrt(share * (1 - share) / steps)
    assert np.abs(seen.mean(0) - share).max() < 4.5 * error
    assert sizes.var() == pytest.approx(count * share * (1 - share), rel=0.1)
    together = np.corrcoef(seen.T)[np.triu_indices(count, 1)]
    assert abs(together.mean()) < 0.003  # -1 / 39 = -.026 where the number is fixed
    assert len(draws.drawn(3, 1)) == 0


LAWS = [
    _one_more_moves_the_sum_by_the_clip_at_most,
    _the_noise_is_the_claims_whoever_was_drawn,
    _each_image_is_drawn_alone_with_probability_q,
]


@pytest.mark.parametrize("law", LAWS)
def test_a_private_step_keeps_its_laws(law: Callable[[], None]) -> None:
    """Scaled once over all that leaves, noise as claimed, images drawn alone."""
    law()


@pytest.mark.parametrize(
    ("bug", "law"),
    [
        ("dp-clip-a-layer", 0),
        ("dp-tokens-unclipped", 0),
        ("dp-noise-by-drawn", 1),
        ("dp-shuffled-batches", 2),
    ],
)
def test_a_bug_in_a_private_step_breaks_a_law(bug: str, law: int) -> None:
    """Cut layer by layer, vectors left out, divided by what was drawn, batches of one size."""
    with Bug.named(bug).everywhere(), pytest.raises((AssertionError, ZeroDivisionError)):
        LAWS[law]()


def test_every_gradient_counts_its_direction() -> None:
    """Long ones are cut to C, short ones stretched, nothing stays nothing; then the plain mean."""
    claim = _claim(sigma_milli=1, images=4)
    directions = [part / 9 for part in _random(3, 1.0).rows]
    sizes = torch.tensor([1e-6, 1.0, 1e6])
    rows = [torch.einsum("k,k...->k...", sizes, part) for part in directions]
    some = Given([torch.cat([part, torch.zeros_like(part[:1])]) for part in rows])

    found = _flat(module.noisy_gradient(some, claim, _draws(), LIKE))

    each = torch.stack([_flat([part[k] for part in directions]) for k in range(3)])
    mean = (CLIP * each / each.norm(dim=1, keepdim=True)).sum(0) / 4
    assert torch.allclose(found, mean, atol=5 * 1e-3 * CLIP / 4)


def test_noise_stays_in_its_slot() -> None:
    """B_i^T B_j = 0, so noise on A_i changes no answer of another slot: to 1e-12 of its size."""
    noise = _draws().normal(48 * 4).reshape(48, 4)
    blocks = [
        integer_block("hadamard", seed=bytes(32), layer="x", width=320, rank=4, slot=s)
        for s in (0, 7)
    ]

    residual = noise @ blocks[0].T.astype(float) / 320**0.5
    leak = np.linalg.norm(residual @ blocks[1].astype(float) / 320**0.5) / np.linalg.norm(residual)

    assert leak <= 1e-12


def test_the_systems_generator_decides_and_no_seed_repeats_it() -> None:
    """Two steps of one run, and the same step twice, have nothing in common."""
    first, second = dp_draws.DpDraws().normal(1_001), dp_draws.DpDraws().normal(1_001)

    assert len(first) == 1_001
    assert not np.isclose(first, second, rtol=0, atol=1e-9).any()
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


def test_normal_draws_are_normal() -> None:
    """Mean, deviation, tails and the independence of neighbours, over a million."""
    z = _draws(3).normal(1_000_000)

    assert abs(z.mean()) < 0.005
    assert z.std() == pytest.approx(1, abs=0.004)
    assert (np.abs(z) > 3).mean() == pytest.approx(0.0027, rel=0.1)
    assert abs(np.corrcoef(z[:500_000], z[500_000:])[0, 1]) < 0.006
