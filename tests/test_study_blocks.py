"""The blocks that the study compares: what is disjoint, what is shared, and what hears more."""

from collections.abc import Callable

import numpy as np
import pytest

from orthofed.core.layer import Layer
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec

from .studied import of_the_study

LAYER = Layer("unet.attn.to_k", 8, 48)
NUM, RANK = 4, 6


@pytest.fixture
def blocks() -> Callable[[str, int], np.ndarray]:
    """`block_of` for the layer above."""
    block_of = of_the_study("blocks").block_of

    def made(kind: str, concept: int) -> np.ndarray:
        return block_of(kind, spec(), LAYER, concept, num=NUM, gram=inputs())

    return made


def inputs() -> np.ndarray:
    """Return second moments with a few loud directions that lie along no axis."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(LAYER.width, LAYER.width)))[0]
    return (turn * np.arange(1, LAYER.width + 1) ** -1.5) @ turn.T


def spec() -> FederationSpec:
    return plan_spec(
        name="study",
        base=BaseModel("other", "study", "1", "0" * 64, "CC0-1.0"),
        layers=[LAYER],
        encoders=[Encoder("text_encoder", 16)],
        seed=bytes(range(32)),
        rank=RANK,
    )


@pytest.mark.parametrize(
    "kind", ["hadamard", "hadamard_width", "haar", "quiet", "loudest", "complement"]
)
def test_disjoint_blocks_share_no_direction(
    blocks: Callable[[str, int], np.ndarray], kind: str
) -> None:
    whole = np.hstack([blocks(kind, n) for n in range(NUM)])

    assert np.allclose(whole.T @ whole, np.eye(NUM * RANK), atol=1e-3)


@pytest.mark.parametrize(("kind", "shared"), [("equal", RANK), ("half", RANK // 2)])
def test_the_controls_share_what_they_say(
    blocks: Callable[[str, int], np.ndarray], kind: str, shared: int
) -> None:
    overlap = np.linalg.norm(blocks(kind, 0).T @ blocks(kind, 1)) ** 2

    assert overlap == pytest.approx(shared, abs=1e-6)


def test_quiet_blocks_hear_less_than_plain_ones_and_loud_ones_more(
    blocks: Callable[[str, int], np.ndarray],
) -> None:
    gram = inputs()

    def heard(kind: str) -> float:
        return sum(float(np.trace(b.T @ gram @ b)) for b in (blocks(kind, n) for n in range(NUM)))

    assert heard("complement") < heard("quiet") < heard("hadamard") < heard("loudest")


def test_one_block_for_all_has_one_block_of_room(
    blocks: Callable[[str, int], np.ndarray],
) -> None:
    same = np.hstack([blocks("equal", n) for n in range(NUM)]).astype(np.float32)

    assert len(of_the_study("blocks").spanned(same.T)) == RANK


def test_draws_of_two_concepts_meet_by_chance_and_gaussian_is_not_orthogonal(
    blocks: Callable[[str, int], np.ndarray],
) -> None:
    met = [np.linalg.norm(blocks("haar_draw", i).T @ blocks("haar_draw", i + 1)) for i in range(8)]
    drawn = blocks("gaussian", 0)

    assert 0 < np.mean(np.square(met)) < RANK
    assert not np.allclose(drawn.T @ drawn, np.eye(RANK), atol=1e-2)


def test_epochs_are_disjoint_inside_and_meet_as_chance_has_it_between(
    blocks: Callable[[str, int], np.ndarray],
) -> None:
    """Mean of ||B_i^T B_j||^2 between two epochs: r^2 / m (method.md 4.3)."""
    epoch = of_the_study("blocks").EPOCH
    first, second = ([blocks("epochs", n + k) for n in range(epoch)] for k in (0, epoch))
    inside = np.hstack(first)
    between = np.square(inside.T @ np.hstack(second)).sum() / epoch**2

    assert np.allclose(inside.T @ inside, np.eye(epoch * RANK), atol=1e-6)
    assert between == pytest.approx(RANK**2 / LAYER.width, rel=0.5)
