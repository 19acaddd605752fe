"""The exact sum: golden bytes of method.md 3.3, and its laws without tolerance."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orthofed.core.basis import Family, integer_block
from orthofed.core.errors import ContributionRejected, OrthoFedError, SpecError
from orthofed.core.merge import EXACT, MAX_LAMBDA, LayerSum, Term, residual
from orthofed.core.metrics import extract_integers
from orthofed.core.published import PUBLISHED, published_layers
from orthofed.core.quantise import A_WINDOW, MAX_MANTISSA, quantise
from orthofed.core.rounding import DType, apply, round_once

SEED = bytes(range(32))
LAYER = "unet.test"

GOLDEN = {
    "dW": "7c8c737e10a92c7ff414e927701231dbbe0d4f0486fb385798bdf3b6cef44a35",
    "F32": "6f2b9811e26b864d609faac90bbd65acd3cc50e684160d6283cf9b9cee3da9e6",
    "F16": "cdb5adbdd00fe6262bab2963f8bd0fbdece810cd2d0127e710524aecffb886d4",
    "BF16": "5e5c79a203c39772d748242e9735426f223bedd7668c5f2ae253946e64f824f8",
}


def sha(array: np.ndarray) -> str:
    little = array.astype(array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


def golden_terms() -> list[Term]:
    """Return the three concepts of method.md 3.3, in slot order."""
    terms: list[Term] = []
    for t, lambda_1024 in enumerate((614, 1024, 300)):
        a = np.array(
            [
                [
                    np.float32((7 * i + 5 * c + 3 * t) % 11 - 5) * np.float32(0.001 * 4**t)
                    for c in (0, 1)
                ]
                for i in range(6)
            ],
            dtype=np.float32,
        )
        tensor = quantise(a)
        b = integer_block("hadamard", seed=SEED, layer=LAYER, width=12, rank=2, slot=t)
        terms.append(Term(tensor.q, tensor.exponent, lambda_1024, b))
    return terms


def golden_weight() -> np.ndarray:
    rows = [[((37 * (12 * i + j)) % 101 - 50) / 1024 for j in range(12)] for i in range(6)]
    return np.array(rows, dtype=np.float32)


def random_terms(
    seed: int, count: int, *, family: Family = "hadamard", width: int = 24, out: int = 5
) -> list[Term]:
    """Return concepts in normal form with mixed exponents, lambdas and magnitudes."""
    rng = np.random.default_rng(seed)
    terms: list[Term] = []
    for slot in range(count):
        q = rng.integers(-32767, 32768, (out, 2)).astype(np.int16)
        q[0, 0] = 32767
        b = integer_block(family, seed=SEED, layer=LAYER, width=width, rank=2, slot=slot)
        exponent = int(rng.integers(-28, -15))
        terms.append(Term(q, exponent, int(rng.integers(0, 2049)), b))
    return terms


def merged(terms: Sequence[Term], family: Family = "hadamard") -> bytes:
    return residual(terms, family=family, width=24, out=5).tobytes()


def test_the_golden_merge_to_the_byte() -> None:
    """Exponents, four entries of M, dW and its three roundings."""
    terms = golden_terms()
    total = LayerSum(6, 12, "hadamard")

    total.add(*terms)

    assert [term.exponent for term in terms] == [-22, -20, -18]
    assert total.integers()[0, :4].tolist() == [-76232584, 18243720, -179312520, 47772296]
    d_w, weight = total.residual(), golden_weight()
    assert sha(d_w) == GOLDEN["dW"]
    assert sha(apply(weight, d_w, "F32")) == GOLDEN["F32"]
    assert sha(round_once(weight.astype(np.float64) + d_w, "F16")) == GOLDEN["F16"]
    assert sha(round_once(weight.astype(np.float64) + d_w, "BF16")) == GOLDEN["BF16"]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 12), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_bytes(seed: int, count: int, random: object) -> None:
    """One at a time, all at once, shuffled: one answer."""
    terms = random_terms(seed, count)
    expected = merged(terms)
    one_by_one = LayerSum(5, 24, "hadamard")

    random.shuffle(terms)  # type: ignore[attr-defined]  # random.Random, by Hypothesis
    for term in terms:
        one_by_one.add(term)

    assert merged(terms) == expected
    assert one_by_one.residual().tobytes() == expected


@pytest.mark.parametrize("family", ["hadamard", "haar", "gaussian"])
@settings(derandomize=True, deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 8), data=st.data())
def test_removal_equals_never_added(
    family: Family, seed: int, count: int, data: st.DataObject
) -> None:
    """Also where the removed concept had the smallest exponent, and for wide sums."""
    terms = random_terms(seed, count, family=family)
    gone = data.draw(st.integers(0, count - 1))
    total = LayerSum(5, 24, family)
    total.add(*terms)

    total.remove(terms[gone])

    rest = [term for i, term in enumerate(terms) if i != gone]
    never = LayerSum(5, 24, family)
    never.add(*rest)
    assert total.residual().tobytes() == merged(rest, family)
    assert total.integers().tobytes() == never.integers().tobytes()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_extraction_returns_each_a_and_free_slots_hold_nothing(seed: int, count: int) -> None:
    """M b_i = m l_i 2^(e_i - e) q_i, and M b_t = 0 for every free slot: in integers."""
    terms = random_terms(seed, count)
    total = LayerSum(5, 24, "hadamard")
    total.add(*terms)
    low = min(term.exponent for term in terms)

    matrix = total.integers()

    for term in terms:
        factor = 24 * (term.lambda_1024 << (term.exponent - low))
        assert np.array_equal(extract_integers(matrix, term.integers), term.q.astype(int) * factor)
    for slot in range(count, 12):
        free = integer_block("hadamard", seed=SEED, layer=LAYER, width=24, rank=2, slot=slot)
        assert not extract_integers(matrix, free).any()


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.sampled_from(["hadamard", "haar", "gaussian"]), st.integers(0, 2**32))
def test_the_sum_is_that_of_unbounded_integers(family: Family, seed: int) -> None:
    """Twelve concepts against Python's own integers, int64 sums included."""
    terms = random_terms(seed, 12, family=family)
    low = min(term.exponent for term in terms)
    total = LayerSum(5, 24, family)

    total.add(*terms)

    expected = np.zeros((5, 24), dtype=object)
    for term in terms:
        weight = term.lambda_1024 << (term.exponent - low)
        expected += (term.q.astype(object) * weight) @ term.integers.astype(object).T
    assert total.integers(low).tolist() == expected.tolist()


def test_sums_beyond_53_bits_are_exact_and_round_once() -> None:
    """Full-size tables at both ends of the window: float64 would lose the last bits of M."""
    rng = np.random.default_rng(11)
    terms = [
        Term(
            (32767 - 2 * rng.integers(0, 3, (3, 8))).astype(np.int16),
            exponent,
            2047,
            (32767 - 2 * rng.integers(0, 3, (4, 8))).astype(np.int16),
        )
        for exponent in (-28, -16, -27)
    ]
    total = LayerSum(3, 4, "haar")

    total.add(*terms)

    expected = np.zeros((3, 4), dtype=object)
    for term in terms:
        weight = 2047 << (term.exponent + 28)
        expected += (term.q.astype(object) * weight) @ term.integers.astype(object).T
    assert int(np.min(expected)) > 2**53
    assert total.integers().tolist() == expected.tolist()
    rounded = np.ldexp(expected.astype(np.float64), -15 - 28 - 10)
    assert total.residual().tobytes() == rounded.tobytes()
    total.remove(terms[1])
    only = LayerSum(3, 4, "haar")
    only.add(terms[2], terms[0])
    assert total.residual().tobytes() == only.residual().tobytes()


def test_a_full_house_of_the_widest_hadamard_layer_is_exact() -> None:
    """The bound stays below 2^52 at width 16384, every column used, every bound at its worst."""
    worst = Term(
        np.full((1, 16384), 32767, dtype=np.int16), -16, 2048, np.ones((1, 16384), dtype=np.int8)
    )

    assert worst.weight(-28) < 2**52


def test_a_sum_beyond_63_bits_is_refused_and_changes_nothing() -> None:
    """An int16 table of thousands of columns, at both ends of the window."""
    q = np.full((1, 4096), 32767, dtype=np.int16)
    b = np.full((2, 4096), 32767, dtype=np.int16)
    low, high = Term(q, -28, 2048, b), Term(q, -16, 2048, b)
    total = LayerSum(1, 2, "haar")
    total.add(low)
    before = total.residual().tobytes()

    with pytest.raises(SpecError) as caught:
        total.add(high)

    assert caught.value.code == "sum-too-wide"
    assert total.residual().tobytes() == before


def test_nothing_merged_is_zero_and_positive() -> None:
    """Empty sums, sums of lambda 0, and sums that cancel: no -0.0 among the bytes."""
    zeros = np.zeros((5, 24)).tobytes()
    terms = random_terms(1, 2)
    silent = [Term(t.q, t.exponent, 0, t.block) for t in terms]
    total = LayerSum(5, 24, "hadamard")
    total.add(*terms)
    total.remove(*terms)

    assert merged([]) == merged(silent) == total.residual().tobytes() == zeros


def test_terms_that_do_not_belong_are_refused() -> None:
    """Shapes, exponents, -32768, lambda; and what was never added."""
    total = LayerSum(5, 24, "hadamard")
    good = random_terms(3, 1)[0]
    minimum = good.q.copy()
    minimum[0, 0] = -32768

    for bad in (
        Term(good.q[:4], good.exponent, 1024, good.block),
        Term(good.q, good.exponent, 1024, good.integers[:12]),
        Term(good.q, good.exponent, 2049, good.block),
    ):
        with pytest.raises(SpecError):
            total.add(bad)
    for bad in (
        Term(good.q, -15, 1024, good.block),
        Term(good.q, -29, 1024, good.block),
        Term(minimum, good.exponent, 1024, good.block),
    ):
        with pytest.raises(ContributionRejected):
            total.add(bad)
    with pytest.raises(SpecError) as caught:
        total.remove(good)
    assert caught.value.code == "not-merged"


def test_integers_are_given_at_or_below_the_smallest_exponent() -> None:
    """Above it M is no integer matrix."""
    terms = golden_terms()
    total = LayerSum(6, 12, "hadamard")
    total.add(*terms)

    assert np.array_equal(total.integers(-23), 2 * total.integers(-22))
    with pytest.raises(SpecError):
        total.integers(-21)


def test_one_rounding_not_two() -> None:
    """By way of float32 both values would become 1."""
    half = round_once(np.array([1 + 2**-11 + 2**-40]), "F16")
    brain = round_once(np.array([1 + 2**-8 + 2**-40]), "BF16")

    assert half.tolist() == [1.0009765625]
    assert as_float(brain).tolist() == [1.0078125]


def as_float(brain: np.ndarray) -> np.ndarray:
    return (brain.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(-3e38, 3e38) | st.floats(-(2.0**-124), 2.0**-124))
@example(1 + 2**-8)  # two ties: down to the even neighbour, and up to it
@example(1 + 3 * 2**-8)
@example(1.5 * 2.0**-133)
@example(0.5 * 2.0**-133)
@example(-(2.0**-126) * (1 - 2**-20))
def test_bfloat16_is_the_nearest_and_even(value: float) -> None:
    """Against the grid itself: spacing 2^(exponent - 7), never below 2^-133."""
    exponent = max(math.frexp(value)[1] - 1, -126) - 7
    expected = math.ldexp(round(math.ldexp(value, -exponent)), exponent)

    assert as_float(round_once(np.array([value]), "BF16")).tolist() == [expected]


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [1e39, -1e39, np.inf, np.nan])
def test_overflow_is_an_error_in_every_type(dtype: DType, value: float) -> None:
    """Never an infinity in a checkpoint."""
    with pytest.raises(OrthoFedError) as caught:
        round_once(np.array([0.0, value]), dtype)

    assert caught.value.code == "weight-overflow"


def test_a_bfloat16_weight_is_read_and_written_in_its_own_bits() -> None:
    """uint16 in, uint16 out; a zero residual changes nothing."""
    weight = np.array([[0x3F80, 0xBF81, 0x0001, 0x0000]], dtype=np.uint16)

    same = apply(weight, np.zeros((1, 4)), "BF16")

    assert same.tolist() == weight.tolist()
    assert as_float(apply(weight, np.ones((1, 4)), "BF16")).tolist()[0][0] == 2.0


def test_the_widest_convolution_is_summed_exactly_however_full_it_is() -> None:
    """Width 23,040: every column used, lambda 2, all exponents: below 2^53, as at 16,384."""
    widest = max(x.width for model in PUBLISHED for x in published_layers(model, "all"))
    spread = 1 << (A_WINDOW[1] - A_WINDOW[0])
    terms = random_terms(5, 3, width=widest, out=2)
    low = min(term.exponent for term in terms)

    ours = LayerSum(2, widest, "hadamard")
    ours.add(*terms)

    assert widest == 23040
    assert widest * MAX_LAMBDA * spread * MAX_MANTISSA < EXACT
    exact = np.zeros((2, widest), dtype=object)
    for term in terms:
        factor = term.lambda_1024 << (term.exponent - low)
        exact += factor * term.q.astype(object) @ np.asarray(term.block, dtype=object).T
    assert np.array_equal(ours.integers().astype(object), exact)
