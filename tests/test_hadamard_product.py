"""H times numbers, factor by factor, against H itself, in integers: nothing to tolerate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.hadamard import HadamardColumns, core_order, hadamard_matrix
from orthofed.core.hadamard_product import HadamardProduct

WIDTHS = [1, 2, 4, 8, 12, 16, 20, 24, 28, 36, 64, 96, 104, 160, 320, 368, 640, 768, 1152, 1280]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.sampled_from(WIDTHS), st.integers(0, 2**32), st.data())
def test_the_product_is_that_of_the_plain_integers(
    width: int, seed: int, data: st.DataObject
) -> None:
    """Any columns in any order, any number of right-hand sides, numbers up to 2^52 / c."""
    random = np.random.default_rng(seed)
    count = data.draw(st.integers(1, width))
    picked = random.permutation(width)[:count]
    product = HadamardProduct(width, picked)
    most = 2**52 // count
    shape = (count, data.draw(st.integers(1, min(product.batch, 40))))
    x = random.integers(-most, most, shape)
    columns = HadamardColumns(np.ones(width, dtype=np.int8), picked).integers()

    got = product(x.astype(np.float64))

    assert np.array_equal(got.astype(np.int64), columns.astype(np.int64) @ x)


def test_a_second_call_holds_nothing_of_the_first() -> None:
    """Buffers are used again, and for fewer right-hand sides too."""
    product = HadamardProduct(24, np.array([3, 17, 5]))
    first = product(np.arange(18.0).reshape(3, 6)).copy()

    product(np.full((3, 4), 7.0))

    assert np.array_equal(product(np.arange(18.0).reshape(3, 6)), first)


@pytest.mark.parametrize("width", [2048, 11520, 16384])
def test_wide_layers_are_exact_at_the_bound(width: int) -> None:
    """One right-hand side with every column used, and sums that reach 2^52: no bit is lost."""
    random = np.random.default_rng(width)
    picked = random.permutation(width)
    x = random.choice([-1, 1], (width, 1)) * (2**52 // width)
    answer = HadamardProduct(width, picked)(x.astype(np.float64)).astype(np.int64)

    rows = random.integers(0, width, 64)

    for row in rows:  # each against the law: H[i,j] is the core's entry and a Sylvester sign
        assert int(answer[row, 0]) == int(_row(width, int(row))[picked] @ x[:, 0])


def _row(width: int, row: int) -> np.ndarray:
    core = hadamard_matrix(core_order(width)).astype(np.int64)
    order = len(core)
    signs = [1 - 2 * ((row // order & j).bit_count() & 1) for j in range(width // order)]
    return np.kron(signs, core[row % order])
