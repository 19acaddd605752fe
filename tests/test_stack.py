"""The stacked LoRA: golden bytes, exact rows, and its distance from the exact merge."""

import numpy as np
import pytest

from orthofed.core.basis import Family, integer_block
from orthofed.core.errors import OrthoFedError, SpecError
from orthofed.core.merge import Term, residual
from orthofed.core.rounding import DType
from orthofed.core.stack import product, stacked

from .test_merge import SEED, golden_terms, random_terms, sha


def test_the_golden_stack_to_the_byte() -> None:
    """The two factors of method.md 3.3 in fp16."""
    up, down = stacked(golden_terms(), family="hadamard", width=12, out=6)

    assert sha(up) == "485399428dfea88ae8f40a8d02ac8295758681ad96c591306f89a37ce0b2b8a9"
    assert sha(down) == "f2e276b33823a8ade56ff67eae10c50168ead9eea17a4142eca4eec8dd35d281"


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_hadamard_rows_are_exact_powers_of_two(dtype: DType) -> None:
    """Orthogonality survives the cast: down down^T is a multiple of I, exactly."""
    _, down = stacked(random_terms(5, 4), family="hadamard", width=24, out=5, dtype=dtype)

    gram = down.astype(np.float64) @ down.T.astype(np.float64)

    assert set(np.unique(np.abs(down))) == {2.0**-2}
    assert np.array_equal(gram, 24 * 2.0**-4 * np.eye(8))


@pytest.mark.parametrize(
    ("family", "bound"), [("hadamard", 1e-7), ("haar", 1e-6), ("gaussian", 1e-6)]
)
def test_the_float32_stack_equals_the_exact_merge(family: Family, bound: float) -> None:
    """Each factor rounds once."""
    terms = random_terms(6, 3, family=family)

    up, down = stacked(terms, family=family, width=24, out=5, dtype="F32")

    exact = residual(terms, family=family, width=24, out=5)
    error = float(np.linalg.norm(product(up, down) - exact) / np.linalg.norm(exact))
    assert error < bound


def test_a_half_precision_stack_is_as_near_as_the_reference_says() -> None:
    """2.1e-4 of dW for A of ordinary size (method.md 3.3)."""
    rng = np.random.default_rng(7)
    q = rng.normal(0, 8000, (40, 4)).round().astype(np.int16)
    b = integer_block("hadamard", seed=SEED, layer="q", width=320, rank=4, slot=1)
    terms = [Term(q, -18, 614, b)]

    up, down = stacked(terms, family="hadamard", width=320, out=40)

    exact = residual(terms, family="hadamard", width=320, out=40)
    assert float(np.linalg.norm(product(up, down) - exact) / np.linalg.norm(exact)) < 3e-4


def test_a_subset_is_columns_of_the_whole() -> None:
    """Bit for bit, with zeros after them up to the file's rank."""
    terms = random_terms(8, 3)
    up, down = stacked(terms, family="hadamard", width=24, out=5, rank=8)

    one_up, one_down = stacked(terms[1:2], family="hadamard", width=24, out=5)

    assert np.array_equal(up[:, 2:4], one_up)
    assert np.array_equal(down[2:4], one_down)
    assert not up[:, 6:].any()
    assert not down[6:].any()


def test_too_small_a_rank_and_overflow_are_refused() -> None:
    """A file has one rank, and no infinity."""
    terms = random_terms(9, 3)
    with pytest.raises(SpecError):
        stacked(terms, family="hadamard", width=24, out=5, rank=5)

    b = integer_block("hadamard", seed=SEED, layer="q", width=24, rank=1, slot=0)
    wild = Term(np.array([[32767]], dtype=np.int16), 10, 2048, b)
    with pytest.raises(OrthoFedError):
        stacked([wild], family="hadamard", width=24, out=1)
