"""A merged weight made some rows at a time has the bytes of the whole sum."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.basis import slot_block
from orthofed.core.errors import ContributionRejected, OrthoFedError, SpecError
from orthofed.core.merge import Term, residual
from orthofed.core.merged_weight import merged_weight
from orthofed.core.rounding import DType, apply

SEED = bytes(range(32))


def term(random: np.random.Generator, slot: int, out: int, width: int, rank: int = 2) -> Term:
    """Return one concept's part: any exponent, any lambda, its block by its columns."""
    q = random.integers(-32767, 32768, (out, rank)).astype(np.int16)
    q[0, 0] = 32767
    block = slot_block("hadamard", seed=SEED, layer="q", width=width, rank=rank, slot=slot)
    return Term(q, int(random.integers(-28, -15)), int(random.integers(0, 2049)), block)


def weight(random: np.random.Generator, out: int, width: int, dtype: DType) -> np.ndarray:
    """Return W with zeros of both signs among its numbers."""
    values = random.normal(scale=0.03, size=(out, width)) * random.choice([0, 1], (out, width))
    values = np.copysign(values, random.choice([-1, 1], (out, width)))
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    return values.astype("<f2" if dtype == "F16" else "<f4")


def plain(terms: list[Term]) -> list[Term]:
    """Return the same terms with their blocks as matrices, which take the product of matrices."""
    return [replace(one, block=one.integers) for one in terms]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.sampled_from([12, 24, 40, 320, 1280]),
    st.sampled_from(["F32", "F16", "BF16"]),
    st.randoms(use_true_random=False),
)
def test_rows_at_a_time_give_the_bytes_of_the_whole_sum(
    seed: int, width: int, dtype: DType, order: object
) -> None:
    """Mixed exponents and lambdas, zeros of both signs, any order, rows that fill no batch."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, min(13, width // 2 + 1)))
    out = int(random.integers(1, 60))
    terms = [term(random, slot, out, width) for slot in range(count)]
    # A concept of zeros alone: W + 0.0 is 0.0, also where W is -0.0.
    terms[0] = replace(terms[0], lambda_1024=0) if count == 1 else terms[0]
    base = weight(random, out, width, dtype)
    expected = apply(base, residual(plain(terms), family="hadamard", width=width, out=out), dtype)

    order.shuffle(terms)  # type: ignore[attr-defined]  # random.Random, by Hypothesis

    merged = merged_weight(base, terms, family="hadamard", dtype=dtype)
    assert merged.dtype == base.dtype
    assert merged.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["no terms", "matrices", "a slot twice", "two layers"])
def test_what_is_no_set_of_columns_takes_the_whole_sum(kind: str) -> None:
    """Nothing merged, blocks as matrices, parts of one slot, blocks of different bases."""
    random = np.random.default_rng(5)
    terms = [term(random, slot, 7, 24) for slot in range(3)]
    if kind == "no terms":
        terms = []
    elif kind == "matrices":
        terms = plain(terms)
    elif kind == "a slot twice":
        terms.append(term(random, 1, 7, 24))
    else:
        block = slot_block("hadamard", seed=SEED, layer="k", width=24, rank=2, slot=3)
        terms.append(replace(term(random, 3, 7, 24), block=block))
    base = weight(random, 7, 24, "F32")

    merged = merged_weight(base, terms, family="hadamard", dtype="F32")

    change = residual(plain(terms), family="hadamard", width=24, out=7)
    assert merged.tobytes() == apply(base, change, "F32").tobytes()


def test_a_term_that_does_not_belong_is_refused() -> None:
    """The checks of the sum hold here too: shape, window, -32768, lambda, overflow."""
    random = np.random.default_rng(6)
    good, base = term(random, 0, 7, 24), weight(random, 7, 24, "F16")
    lowest = good.q.copy()
    lowest[0, 0] = -32768
    for bad, error in (
        (replace(good, q=good.q[:4]), SpecError),
        (replace(good, exponent=-15), ContributionRejected),
        (replace(good, q=lowest), ContributionRejected),
        (replace(good, lambda_1024=2049), SpecError),
    ):
        with pytest.raises(error):
            merged_weight(base, [bad], family="hadamard", dtype="F16")
    loud = replace(good, exponent=6, lambda_1024=2048)
    with pytest.raises(OrthoFedError) as caught:
        merged_weight(base, [loud], family="hadamard", dtype="F16", window=(-6, 6))

    assert caught.value.code == "weight-overflow"


def test_nothing_of_the_size_of_the_residual_is_allocated() -> None:
    """Twelve concepts in a 1280 x 1280 layer: the answer, A's numbers, and a few rows."""
    random = np.random.default_rng(7)
    terms = [term(random, slot, 1280, 1280, rank=20) for slot in range(12)]
    base = weight(random, 1280, 1280, "F16")
    numbers = 12 * 20 * 1280 * 8
    tracemalloc.start()
    try:
        merged = merged_weight(base, terms, family="hadamard", dtype="F16")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < merged.nbytes + numbers + 3_000_000  # dW alone would be 13,107,200
