"""The nearest A' behind a frozen B, against the m x m formula of method.md 7."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthofed.core.errors import InputError
from orthofed.core.projection import RIDGE, energies, projected


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_the_small_gram_gives_what_the_whole_moment_gives(seed: int, rank: int, r: int) -> None:
    """A' = dW C B (B^T C B + ridge)^-1 and both traces, computed with C of m x m beside it."""
    random = np.random.default_rng(seed)
    n, m = 5, 9
    up, down = random.normal(size=(n, rank)), random.normal(size=(rank, m))
    b, _ = np.linalg.qr(random.normal(size=(m, r)))
    x = random.normal(size=(40, m)) * random.uniform(0.1, 3, size=m)
    c = x.T @ x
    seen = x @ np.vstack([down, b.T]).T
    inside = b.T @ c @ b
    ridge = RIDGE * np.trace(inside) / r * np.eye(r)

    a = projected(up, seen.T @ seen)
    lost, whole = energies(up, a, seen.T @ seen)

    dw = up @ down
    np.testing.assert_allclose(a, dw @ c @ b @ np.linalg.inv(inside + ridge), rtol=1e-6, atol=1e-9)
    rest = dw - a @ b.T
    np.testing.assert_allclose(whole, np.trace(dw @ c @ dw.T), rtol=1e-9)
    np.testing.assert_allclose(lost, np.trace(rest @ c @ rest.T), rtol=1e-6, atol=1e-9 * whole)
    other = a + 1e-2 * random.normal(size=a.shape)
    assert lost <= energies(up, other, seen.T @ seen)[0] + 1e-9 * whole


def test_a_change_that_lies_in_the_slot_is_kept_whole() -> None:
    """With dW = A B^T, A' is A but for the ridge, and nothing is lost."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(4, 3)), np.linalg.qr(random.normal(size=(8, 3)))[0]
    x = random.normal(size=(50, 8)) @ np.vstack([b.T, b.T]).T

    found = projected(a, x.T @ x)

    np.testing.assert_allclose(found, a, rtol=1e-4)
    lost, whole = energies(a, found, x.T @ x)
    assert lost < 1e-10 * whole


def test_inputs_that_never_reach_the_slot_give_zero_and_numbers_that_are_none_an_error() -> None:
    """No activation in the slot: A' is 0, not infinite; a NaN in the file is named."""
    gram = np.diag([1.0, 0.0])

    assert projected(np.ones((2, 1)), gram).tolist() == [[0.0], [0.0]]
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="not all finite"):
            projected(np.full((2, 1), bad), gram)
    with pytest.raises(InputError, match="rank 2 with 2"):
        projected(np.ones((2, 2)), gram)
