"""Figures about a merge, on cases whose answer is known."""

import numpy as np
import pytest

from orthofed.core.basis import Family, block, scale
from orthofed.core.errors import InputError
from orthofed.core.merge import residual
from orthofed.core.metrics import (
    energy_by_slot,
    extract,
    retention,
    total_crosstalk,
    weight_crosstalk,
)

from .test_merge import SEED, random_terms


def blocks(family: Family, count: int) -> list[np.ndarray]:
    return [
        block(family, seed=SEED, layer="q", width=320, rank=8, slot=slot) for slot in range(count)
    ]


def factors(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 0.01, (16, 8)).astype(np.float32) for _ in range(count)]


def test_disjoint_slots_have_no_crosstalk_and_gaussian_ones_have() -> None:
    """Identity matrix for hadamard; about sqrt(r / m) beside the diagonal for gaussian."""
    exact = weight_crosstalk(factors(4), blocks("hadamard", 4))
    loose = weight_crosstalk(factors(4), blocks("gaussian", 4))

    assert np.abs(exact - np.eye(4)).max() < 1e-6
    assert 0.5 < loose[0, 1] / np.sqrt(8 / 320) < 2


def test_crosstalk_over_layers_weighs_each_by_its_energy() -> None:
    """Twice the same layer changes nothing; a concept of zeros has a row of zeros."""
    a, b = factors(3), blocks("gaussian", 3)
    a[2] = np.zeros_like(a[2])

    one, two = total_crosstalk([(a, b)]), total_crosstalk([(a, b), (a, b)])

    assert np.allclose(one, weight_crosstalk(a, b))
    assert np.allclose(one, two)
    assert not one[2].any()


def test_energy_lies_in_the_leased_slots_only() -> None:
    """The twelve slots of a width of 24 share dW's energy among the leased three."""
    terms = random_terms(2, 3)
    d_w = residual(terms, family="hadamard", width=24, out=5)
    every = [
        block("hadamard", seed=SEED, layer="unet.test", width=24, rank=2, slot=slot)
        for slot in range(12)
    ]

    energy = energy_by_slot(d_w, every)

    assert np.isclose(energy.sum(), np.sum(d_w**2))
    assert energy[3:].max() < 1e-12 * energy.sum()


def test_extraction_returns_a() -> None:
    """From dW alone, anyone reads A_i back (method.md 5)."""
    term = random_terms(4, 5)[2]
    d_w = residual(random_terms(4, 5), family="hadamard", width=24, out=5)

    a = extract(d_w, term.integers * scale("hadamard", 24), lambda_1024=term.lambda_1024)

    assert np.allclose(a, np.ldexp(term.q.astype(float), term.exponent), rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError):
        extract(d_w, term.integers, lambda_1024=0)


def test_retention_is_one_for_a_merge_that_changes_nothing() -> None:
    """And 0 where the merge is no better than the base."""
    assert retention(0.5, 0.25, 0.25) == 1.0
    assert retention(0.5, 0.25, 0.5) == 0.0


@pytest.mark.parametrize(
    ("losses", "code"),
    [
        ((0.3, 0.3, 0.3), "nothing-learnt"),
        ((0.3, 0.4, 0.3), "nothing-learnt"),
        ((np.nan, 0.3, 0.3), "not-finite"),
        ((0.4, 0.3, np.inf), "not-finite"),
    ],
)
def test_retention_of_what_was_not_learnt_is_refused(losses: tuple[float, ...], code: str) -> None:
    """Zero over zero is no figure."""
    with pytest.raises(InputError) as caught:
        retention(*losses)

    assert caught.value.code == code


def test_each_concept_needs_its_own_block() -> None:
    """Not one more, not one less."""
    with pytest.raises(InputError):
        weight_crosstalk(factors(2), blocks("hadamard", 3))
