"""Why there is no secure aggregation (security.md 9.2, docs/adr/0006): the sum gives every A back.

40 clients hide their uploads behind pairwise masks of 40 bits that cancel in the sum. One upload
alone is noise. The sum of all is what a coordinator has to learn, and it is enough: blocks are
public and disjoint, so the sum times a client's signs is m times its A, exactly, in integers. The
second half takes A from the very files that a release publishes.
"""

from itertools import combinations

import numpy as np
import pytest

from orthofed.core.basis import integer_block, scale
from orthofed.core.merge import Term, residual
from orthofed.core.quantise import quantise
from orthofed.core.rounding import DType, apply, exact, round_once
from orthofed.core.stack import stacked

CLIENTS, WIDTH, OUT, RANK = 40, 768, 24, 4
SEED = bytes(range(32))
MASK = 1 << 40


def signs(slot: int) -> np.ndarray:
    """Return S_i: sqrt(m) B_i, public, entries +1 and -1."""
    return integer_block(
        "hadamard", seed=SEED, layer="unet.test", width=WIDTH, rank=RANK, slot=slot
    ).astype(np.int64)


def contributions() -> list[np.ndarray]:
    """Return the integers of each client's A: 16 bits, as they travel."""
    rng = np.random.default_rng(9)
    return [rng.integers(-32767, 32768, (OUT, RANK)) for _ in range(CLIENTS)]


def masked(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Return the uploads: A_i S_i^T plus masks that every pair of clients agreed on."""
    rng = np.random.default_rng(10)
    uploads = [a @ signs(slot).T for slot, a in enumerate(parts)]
    for i, j in combinations(range(CLIENTS), 2):
        mask = rng.integers(-MASK, MASK, (OUT, WIDTH))
        uploads[i] = uploads[i] + mask
        uploads[j] = uploads[j] - mask
    return uploads


def test_the_masked_sum_gives_every_contribution_back() -> None:
    """``total @ S_i == m * A_i`` for each of 40 clients: not one bit is hidden by the sum."""
    parts = contributions()

    total = np.sum(masked(parts), axis=0)

    for slot, a in enumerate(parts):
        assert np.array_equal(total @ signs(slot), WIDTH * a)


def test_one_masked_upload_alone_reveals_nothing_that_a_guess_would_not() -> None:
    """The masks do what they promise: an upload has no correlation with its own A.

    So the leak above is the sum's, which every secure aggregation hands out on purpose.
    """
    parts = contributions()
    uploads = masked(parts)

    for slot in range(0, CLIENTS, 8):
        found = (uploads[slot] @ signs(slot)).ravel().astype(np.float64)
        true = parts[slot].ravel().astype(np.float64)
        assert abs(np.corrcoef(found, true)[0, 1]) < 4 / np.sqrt(len(true))


def test_a_full_upload_would_be_192_times_as_large() -> None:
    """Masks are as large as what they hide, n x m, where an upload of A alone is n x r."""
    assert masked(contributions())[0].size == 192 * contributions()[0].size


@pytest.fixture(scope="module")
def terms() -> list[Term]:
    """Return 40 contributions of rms .005, at lambda 1."""
    found: list[Term] = []
    for slot in range(CLIENTS):
        rng = np.random.default_rng(slot)
        a = quantise((rng.standard_normal((OUT, RANK)) * 0.005).astype(np.float32))
        found.append(Term(a.q, a.exponent, 1024, signs(slot).astype(np.int8)))
    return found


def worst(terms: list[Term], change: np.ndarray) -> float:
    """Return the largest relative error of A_i = dW B_i over all clients."""
    errors: list[float] = []
    for slot, term in enumerate(terms):
        true = np.ldexp(term.q.astype(np.float64), term.exponent)
        found = change @ (signs(slot) * scale("hadamard", WIDTH))
        errors.append(float(np.linalg.norm(found - true) / np.linalg.norm(true)))
    return max(errors)


PUBLISHED: list[tuple[DType | None, float]] = [
    (None, 5e-15),
    ("F32", 5e-7),
    ("F16", 4e-3),
    ("BF16", 3e-2),
]


@pytest.mark.parametrize(("dtype", "most"), PUBLISHED)
def test_anyone_takes_every_a_from_a_published_checkpoint(
    terms: list[Term], dtype: DType | None, most: float
) -> None:
    """W' - W, W of rms .03: about 2e-15, 2.3e-7, 1.9e-3 and 1.5e-2, the rounding of each type."""
    change = residual(terms, family="hadamard", width=WIDTH, out=OUT)
    if dtype is not None:
        rng = np.random.default_rng(3)
        weight = round_once(rng.standard_normal((OUT, WIDTH)) * 0.03, dtype)
        change = exact(apply(weight, change, dtype), dtype) - exact(weight, dtype)

    error = worst(terms, change)

    assert most / 20 < error < most


def test_anyone_takes_every_a_from_the_published_lora(terms: list[Term]) -> None:
    """The canonical file holds each A in columns of its own: 2e-4, the rounding of sixteen bits."""
    up, down = stacked(terms, family="hadamard", width=WIDTH, out=OUT)

    error = worst(terms, exact(up, "F16") @ exact(down, "F16"))

    assert 1e-4 < error < 4e-4
