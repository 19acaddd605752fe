"""16-bit integers and one exponent: golden values of method.md 3.1 and the normal form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orthofed.core.errors import ContributionRejected, InputError
from orthofed.core.quantise import A_WINDOW, check_normal, dequantise, quantise


def f32(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("values", "q", "exponent"),
    [
        ((0.375, -0.05, 2**-24, 0, -0.15, 0.00615), (24576, -3277, 0, 0, -9830, 403), -16),
        (
            tuple(x / 65536 for x in (16384, 0.5, 1.5, 2.5, -0.5, -1.5)),
            (16384, 0, 2, 2, 0, -2),
            -16,
        ),
        ((32767.25 * 2**-20,), (32767,), -20),
        ((32767.5 * 2**-20,), (16384,), -19),
        ((0.0, -0.0), (0, 0), -28),
    ],
)
def test_golden_values(values: tuple[float, ...], q: tuple[int, ...], exponent: int) -> None:
    """Half to even, smallest exponent; the list of method.md 3.1."""
    tensor = quantise(f32(*values))

    assert tuple(tensor.q.tolist()) == q
    assert tensor.exponent == exponent


@settings(derandomize=True, deadline=None)
@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-0.375, 0.375, width=32)))
def test_a_quantised_tensor_is_in_normal_form_and_near(array: np.ndarray) -> None:
    """Half a unit at most, and the same tensor again from its own value."""
    tensor = quantise(array)

    check_normal(tensor.q, tensor.exponent, low=-28, high=-16)
    back = dequantise(tensor)
    again = quantise(back)
    assert float(np.abs(back.astype(float) - array).max()) <= 2.0 ** (tensor.exponent - 1)
    assert np.array_equal(again.q, tensor.q)
    assert again.exponent == tensor.exponent


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_has_no_encoding(value: float) -> None:
    """The error speaks of training, where it comes from."""
    with pytest.raises(InputError) as caught:
        quantise(f32(0.1, value))

    assert caught.value.code == "not-finite"


def test_a_value_near_one_half_is_refused() -> None:
    """The window of A ends there; token rows have a wider one."""
    largest = 32767 * 2**-16

    assert quantise(f32(largest)).exponent == -16
    with pytest.raises(InputError) as caught:
        quantise(f32(0.5))
    assert caught.value.code == "value-too-large"
    assert quantise(f32(0.5), low=-40, high=0).exponent == -15


def test_empty_tensors_are_zeros() -> None:
    """A named case: no entry, lowest exponent."""
    assert quantise(np.zeros((0, 4), dtype=np.float32)).exponent == A_WINDOW[0]


@pytest.mark.parametrize(
    ("q", "exponent"),
    [([16383], -27), ([-32768], -20), ([0], -20), ([20000], -29), ([20000], -15)],
)
def test_another_spelling_of_a_value_is_refused(q: list[int], exponent: int) -> None:
    """One value, one encoding."""
    with pytest.raises(ContributionRejected) as caught:
        check_normal(np.array(q, dtype=np.int16), exponent, low=-28, high=-16)

    assert caught.value.code == "not-normal-form"


@pytest.mark.parametrize(
    ("q", "exponent"), [([16384], -16), ([-16384], -20), ([1], -28), ([], -28)]
)
def test_the_edges_of_the_normal_form_are_taken(q: list[int], exponent: int) -> None:
    """Exactly half of the range, and anything at the lowest exponent."""
    check_normal(np.array(q, dtype=np.int16), exponent, low=-28, high=-16)


def test_every_mantissa_and_exponent_is_finite() -> None:
    """T7: NaN and infinity cannot be expressed, in any window."""
    every = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16)

    for exponent in range(-40, 1):
        assert np.isfinite(np.ldexp(every.astype(np.float32), exponent)).all()
