"""Fusion: the residual that answers each concept's own inputs best, by its law and its limits."""

import numpy as np
import pytest

from orthofed.core.fusion import RIDGE, Fit, error

N, R, NUM, OUT = 3, 4, 3, 5
"""Inputs of a concept, columns of one, concepts, and the layer's outputs."""
RANK = R * NUM


def fused(ups: list[np.ndarray], grams: list[np.ndarray]) -> np.ndarray:
    """Return the fit of these."""
    fit = Fit.begun(*ups[0].shape)
    for up, gram in zip(ups, grams, strict=True):
        fit.add(up, gram)
    return fit.solved()


@pytest.fixture
def concepts() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return U_i, each in its own columns, and G_i of few inputs that lie in everybody's."""
    random = np.random.default_rng(5)
    ups = [np.zeros((OUT, RANK)) for _ in range(NUM)]
    for number, up in enumerate(ups):
        up[:, number * R : (number + 1) * R] = random.normal(size=(OUT, R))
    return ups, [seen.T @ seen for seen in random.normal(size=(NUM, N, RANK))]


def test_no_other_residual_answers_all_inputs_better(
    concepts: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    """The error on all inputs with the ridge rises in every direction; the sum's is far larger."""
    ups, grams = concepts
    ridge = RIDGE * np.trace(np.sum(grams, axis=0)) / RANK

    def loss(whole: np.ndarray) -> float:
        off = sum(error(whole, up, gram)[0] for up, gram in zip(ups, grams, strict=True))
        return float(off + ridge * np.sum(whole**2))

    found, random = fused(ups, grams), np.random.default_rng(6)

    assert loss(found) < 0.3 * loss(np.sum(ups, axis=0))
    for _ in range(50):
        assert loss(found + 1e-3 * random.normal(size=found.shape)) > loss(found)


def test_concepts_that_never_meet_are_summed_but_for_the_ridge(
    concepts: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    """Each concept's inputs lie in its own columns alone: nothing is to be taken away."""
    ups, _ = concepts
    grams = [np.diag((np.arange(RANK) // R == number) * 1.0) for number in range(NUM)]

    assert np.allclose(fused(ups, grams), np.sum(ups, axis=0) / (1 + RIDGE))


def test_order_and_scale_of_inputs_do_not_count(
    concepts: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    ups, grams = concepts

    assert np.allclose(fused(ups[::-1], grams[::-1]), fused(ups, grams))
    assert np.allclose(fused(ups, [7.0 * gram for gram in grams]), fused(ups, grams))


def test_padding_changes_nothing(
    concepts: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    """Columns that no input reaches: 0 there, and the rest as without them."""
    ups, grams = concepts
    wide = fused(
        [np.pad(up, ((0, 0), (0, 2))) for up in ups],
        [np.pad(gram, ((0, 2), (0, 2))) for gram in grams],
    )

    assert np.allclose(wide[:, :RANK], fused(ups, grams))
    assert not wide[:, RANK:].any()


def test_a_layer_that_sees_nothing_gets_the_sum(
    concepts: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    ups, grams = concepts

    assert np.array_equal(fused(ups, [0.0 * gram for gram in grams]), np.sum(ups, axis=0))
