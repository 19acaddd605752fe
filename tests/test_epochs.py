"""Slots of several bases: which block one has, what the spec says, what overlaps and how much."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.coordinator import leases
from orthofed.coordinator.slot_events import Ask, Commit, Draw, GiveBack, Grant, Publish, Withdraw
from orthofed.coordinator.slots import Slot, Slots
from orthofed.core.basis import Family
from orthofed.core.bounds import full_house
from orthofed.core.epochs import MAX_EPOCHS
from orthofed.core.errors import OrthoFedError, SpecError
from orthofed.core.layer import MAX_WIDTH, Layer
from orthofed.core.merge import EXACT, MAX_LAMBDA, LayerSum, Term, residual
from orthofed.core.merged_weight import merged_weight
from orthofed.core.overlap import measured, price, stages
from orthofed.core.quantise import A_WINDOW, MAX_MANTISSA
from orthofed.core.quiet import with_quiet_columns
from orthofed.core.rounding import apply
from orthofed.core.spec import FederationSpec, plan_spec
from orthofed.core.spec_blocks import block, integer_block, slot_block

from .test_spec import BASE, TEXT, body_of, small, spelt

SMALL_ID = "186f3c9cc978e75190c17260451b39901ed99641b06bf18de10c949e1d3049e9"


def spec_of(
    *layers: Layer,
    epochs: int = 2,
    rank: int | None = 4,
    capacity: int | None = None,
    basis: Family = "hadamard",
) -> FederationSpec:
    return plan_spec(
        name="toy-fed",
        base=BASE,
        layers=layers or (Layer("unet.b", 8, 24), Layer("unet.a", 6, 48)),
        encoders=TEXT,
        seed=bytes(range(32)),
        basis=basis,
        rank=rank,
        capacity=capacity,
        epochs=epochs,
    )


def test_a_slot_beyond_the_first_basis_has_the_golden_block_of_the_next() -> None:
    """method.md 2.6: m = 12, K = 6, slot 7 is slot 1 of unet.test#1."""
    layer = Layer("unet.test", 8, 12)
    spec = spec_of(layer, rank=2)

    columns = integer_block(spec, layer, 7).T

    assert (spec.capacity, spec.disjoint_slots, spec.epoch(layer, 7)) == (12, 6, 1)
    shown = ["".join("+" if x > 0 else "-" for x in column) for column in columns]
    assert shown == ["+--+----+-++", "++---+---+-+"]
    first = integer_block(spec_of(layer, rank=2, epochs=1), layer, 1)
    assert np.array_equal(integer_block(spec, layer, 1), first), "the first basis is as ever"
    with pytest.raises(SpecError, match="slot 12"):
        slot_block(spec, layer, 12)
    with pytest.raises(SpecError):
        slot_block(spec, layer, -1)


def test_one_basis_is_not_spelt_and_several_are() -> None:
    """A disjoint federation keeps its bytes and its id; one with overlap has an id of its own."""
    one, two = small(), replace(small(), capacity=12, epochs=2)

    assert (one.id, one.epochs, one.disjoint_slots) == (SMALL_ID, 1, 6)
    assert "epochs" not in body_of(one)
    assert body_of(two)["epochs"] == 2
    assert two.id not in {one.id, replace(small(), capacity=11, epochs=2).id}
    assert FederationSpec.from_bytes(two.to_bytes()) == two


@pytest.mark.parametrize("value", [1, 0, -1, MAX_EPOCHS + 1, True, "2", 2.0, None])
def test_a_number_of_bases_that_is_none_is_not_read(value: object) -> None:
    """1 has no second spelling; the bounds are named."""
    body = {**body_of(replace(small(), capacity=12, epochs=2)), "epochs": value}

    with pytest.raises(OrthoFedError) as caught:
        FederationSpec.from_bytes(spelt(body))

    assert caught.value.code in {"bad-field", "not-canonical"}
    if caught.value.code == "bad-field":
        assert f"`epochs` of a spec is not an integer from 2 to {MAX_EPOCHS}" in caught.value.what


@pytest.mark.parametrize("epochs", [0, -2, MAX_EPOCHS + 1])
def test_too_few_and_too_many_bases_are_refused_with_value_and_bound(epochs: int) -> None:
    with pytest.raises(SpecError) as caught:
        spec_of(epochs=epochs)

    assert str(epochs) in caught.value.what
    assert f"1 to {MAX_EPOCHS}" in caught.value.why
    assert caught.value.code == "bad-overlap"
    with pytest.raises(SpecError):
        replace(small(), epochs=epochs)


@pytest.mark.parametrize("family", ["haar", "gaussian"])
def test_bases_that_have_no_further_one_are_refused_with_the_one_that_has(family: Family) -> None:
    with pytest.raises(SpecError) as caught:
        spec_of(basis=family)

    assert family in caught.value.what
    assert "hadamard" in caught.value.fix
    one = spec_of(basis=family, epochs=1)
    with pytest.raises(SpecError):
        replace(one, epochs=2, capacity=12)


def test_quiet_columns_and_further_bases_do_not_go_together() -> None:
    """Energies are those of the first basis' columns: later concepts would be louder than told."""
    plain = spec_of(epochs=1)
    quiet = with_quiet_columns(
        plain, {layer.path: np.arange(layer.width, dtype=float) for layer in plain.layers}
    )

    with pytest.raises(SpecError) as caught:
        replace(quiet, epochs=2, capacity=12)

    assert "quiet columns" in caught.value.what
    assert "out" in caught.value.fix


def test_slots_are_as_many_as_asked_for_and_bases_as_few_as_hold_them() -> None:
    """By rank K of the narrowest layer times the bases; by number that many, in fewer bases."""
    assert spec_of(epochs=3).capacity == 18
    wide = spec_of(epochs=2, rank=None, capacity=11)
    assert (wide.epochs, wide.disjoint_slots, wide.ranks) == (2, 6, ((24, 4), (48, 8)))
    assert spec_of(epochs=16, capacity=13).epochs == 3
    assert spec_of(epochs=16, capacity=6) == spec_of(epochs=1)
    with pytest.raises(SpecError, match="capacity 13") as caught:
        replace(small(), epochs=2, capacity=13)
    assert caught.value.why == "these layers and ranks hold 7 to 12 slots of 2 bases"
    for capacity in (6, 0, -1):
        with pytest.raises(SpecError):
            replace(small(), epochs=2, capacity=capacity)


def test_a_wide_layer_overlaps_later_than_a_narrow_one() -> None:
    """Twelve slots of four: two bases of 24 inputs, and one of 48, where all are disjoint."""
    spec = spec_of()
    wide, low = spec.layers

    assert (wide.width, low.width) == (48, 24)
    assert [spec.epoch(low, slot) for slot in (0, 5, 6, 11)] == [0, 0, 1, 1]
    assert {spec.epoch(wide, slot) for slot in range(12)} == {0}
    together = np.hstack([block(spec, wide, slot) for slot in range(12)]).astype(np.float64)
    assert np.allclose(together.T @ together, np.eye(48), atol=1e-6)
    overlap = block(spec, low, 0).T @ block(spec, low, 6)
    assert 0 < np.sum(overlap.astype(np.float64) ** 2) < 4


def test_a_path_that_leaves_no_room_for_the_number_of_its_basis_is_refused() -> None:
    """255 characters are the most that a stream takes; `#1` needs two of them, `#10` three."""
    fits, long = Layer("u" * 253, 8, 24), Layer("u" * 254, 8, 24)

    block(spec_of(fits), fits, 7)
    block(spec_of(fits, epochs=10), fits, 59)
    with pytest.raises(SpecError, match="254 characters"):
        spec_of(long)
    with pytest.raises(SpecError, match="253 characters"):
        spec_of(fits, epochs=11)
    assert spec_of(long, epochs=1).capacity == 6


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.sampled_from([48, 320]), st.data())
def test_slots_share_nothing_within_a_basis_and_all_of_another_hear_r_in_sum(
    seed: bytes, width: int, data: st.DataObject
) -> None:
    """In integers, for any seed: 0 in an epoch; a full epoch hears a block whole, r m^2 in sum."""
    layer = Layer("unet.a", 4, width)
    spec = replace(spec_of(layer, epochs=3), seed=seed)
    slot = data.draw(st.integers(0, spec.capacity - 1))
    own = integer_block(spec, layer, slot).astype(np.int64)
    k = spec.disjoint_slots

    for epoch in range(3):
        heard = [
            int(np.sum((own.T @ integer_block(spec, layer, u).astype(np.int64)) ** 2))
            for u in range(epoch * k, (epoch + 1) * k)
        ]
        assert sum(heard) == 4 * width**2
        if epoch == spec.epoch(layer, slot):
            assert heard[slot % k] == 4 * width**2


def test_between_bases_the_mean_overlap_is_r_over_m() -> None:
    """method.md 4.3: r^2 / m a pair; here over 24 seeds, K r < m so that no identity fixes it."""
    layer = Layer("unet.a", 4, 384)  # nineteen slots of 20 columns, and four columns more
    found = [
        measured(replace(spec_of(layer, rank=20), seed=bytes([n] * 32)), layer) for n in range(24)
    ]

    means = [each.mean for each in found if each is not None]
    assert len(means) == 24
    assert np.mean(means) == pytest.approx(20 / 384, rel=0.01)
    assert max(means) - min(means) > 1e-6
    assert all(each.mean < each.largest < 2 * 20 / 384 for each in found if each is not None)
    assert measured(spec_of(layer, rank=20, epochs=1), layer) is None


def test_the_price_is_that_of_the_table() -> None:
    """method.md 4.3, m = 320, r = 20: N = 17, 24, 32, 64; and nothing where nothing overlaps."""

    def at(concepts: int) -> tuple[float, float, float]:
        found = price(concepts, slots=64, rank=20, width=320)
        return round(found.heard, 2), round(found.drawn, 2), round(found.least, 2)

    assert [at(n) for n in (17, 24, 32, 64)] == [
        (0.12, 1.0, 0.06), (0.67, 1.44, 0.5), (1.0, 1.94, 1.0), (3.0, 3.94, 3.0),
    ]  # fmt: skip
    assert at(0) == (0, 0, 0)
    assert at(16) == (0, 0.94, 0)
    more = [price(n, slots=32, rank=20, width=320).next_adds for n in (15, 16, 31, 32)]
    assert more == [0, 0.0625, 0.0625, 0]
    assert stages(16, 16) == stages(64, 16) == (16,)
    assert stages(1, 2) == (1, 2)


def test_the_price_is_what_the_blocks_of_a_federation_have() -> None:
    """Full epochs, where K r = m: a concept's sum over all others is E - 1, for any seed."""
    layer = Layer("unet.a", 4, 48)
    spec = spec_of(layer, epochs=3)
    blocks = [block(spec, layer, u).astype(np.float64) for u in range(spec.capacity)]

    sums = [
        sum(np.sum((one.T @ other) ** 2) for other in blocks if other is not one) / 4
        for one in blocks
    ]

    wanted = price(36, slots=36, rank=4, width=48)
    assert sums == pytest.approx([2.0] * 36)
    assert (wanted.heard, wanted.least) == pytest.approx((2.0, 2.0))


def term_of(spec: FederationSpec, layer: Layer, slot: int) -> Term:
    random = np.random.default_rng(slot)
    q = random.integers(-32767, 32768, (layer.out, spec.layer_rank(layer))).astype(np.int16)
    q[0, 0] = 32767
    exponent, share = int(random.integers(-28, -15)), int(random.integers(1, 2049))
    return Term(q, exponent, share, slot_block(spec, layer, slot))


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_a_merge_over_bases_is_exact_in_any_order_and_a_removal_leaves_no_trace(dtype) -> None:
    """The sum, a checkpoint's weight, and both without one concept: bytes, not tolerances."""
    layer = Layer("unet.a", 10, 48)
    spec = spec_of(layer, epochs=2)
    terms = [term_of(spec, layer, slot) for slot in range(spec.capacity)]
    random = np.random.default_rng(1)
    weight = (random.normal(size=(10, 48)) * 0.03).astype({"F32": "<f4", "F16": "<f2"}[dtype])
    shape = {"family": spec.basis, "width": 48, "out": 10}

    total = LayerSum(10, 48, "hadamard")
    for term in terms:
        total.add(term)
    whole = total.residual()
    total.remove(terms[20])
    rest = [term for term in terms if term is not terms[20]]

    low = min(term.exponent for term in terms)
    exact = sum(
        (term.q.astype(object) * (term.lambda_1024 << (term.exponent - low)))
        @ term.integers.astype(object).T
        for term in terms
    )
    shuffled = [terms[n] for n in random.permutation(len(terms))]
    assert whole.tobytes() == residual(shuffled, **shape).tobytes()
    assert np.array_equal(np.array(exact, dtype=float) * (2.0 ** (low - 10) / np.sqrt(48)), whole)
    assert total.residual().tobytes() == residual(rest, **shape).tobytes()
    merged = merged_weight(weight, shuffled, family="hadamard", dtype=dtype)
    assert merged.tobytes() == apply(weight, whole, dtype).tobytes()


def test_norms_add_up_over_bases_where_within_one_their_squares_do() -> None:
    """The budget's bound (core/bounds.py) is reached: one direction, written once in each basis."""
    layer = Layer("unet.a", 5, 48)
    spec = spec_of(layer)
    random = np.random.default_rng(6)
    v, w = (x / np.linalg.norm(x) for x in (random.normal(size=5), random.normal(size=48)))
    a = [np.outer(v, block(spec, layer, slot).T.astype(np.float64) @ w) for slot in range(24)]
    squares = [sum(float(np.linalg.norm(x, 2)) ** 2 for x in half) for half in (a[:12], a[12:])]

    whole = sum(x @ block(spec, layer, slot).T.astype(np.float64) for slot, x in enumerate(a))

    assert squares == pytest.approx([1, 1])
    assert np.linalg.norm(whole, 2) == pytest.approx(sum(math.sqrt(x) for x in squares))
    assert np.linalg.norm(whole, 2) > math.sqrt(sum(squares)) * 1.4
    assert full_house(100, 24, 2) == math.ceil(200 * math.sqrt(12)) > full_house(100, 24)


def test_no_merge_of_the_most_bases_is_refused_and_beta_decides_how_it_is_summed() -> None:
    """method.md 3.2: beyond 2^53 the sum is in int64, and its conversion rounds once.

    One basis never gets there up to width 16,384; of three full ones of that width a sum may, and
    of sixteen at the widest layer that a spec takes it still has less than 63 bits.
    """
    spread = 1 << (A_WINDOW[1] - A_WINDOW[0])
    worst = MAX_LAMBDA * spread * MAX_MANTISSA
    assert 16_384 * worst < 2 * 16_384 * worst < EXACT < 3 * 16_384 * worst
    assert MAX_EPOCHS * MAX_WIDTH * worst < 2**58

    layer = Layer("unet.a", 1, 16)  # 16 bases, and each of its columns 3,000 times, for the width
    spec = spec_of(layer, epochs=MAX_EPOCHS, rank=16)
    random = np.random.default_rng(4)
    terms = [
        Term(
            (32767 - random.integers(0, 9, (1, 16 * 3000))).astype(np.int16),
            A_WINDOW[slot % 2],
            MAX_LAMBDA - 1,
            np.tile(np.abs(integer_block(spec, layer, slot)), (1, 3000)),
        )
        for slot in range(MAX_EPOCHS)
    ]
    total = LayerSum(1, 16, "hadamard")
    total.add(*terms)
    expected = sum(
        int(term.q.sum(dtype=np.int64)) * (term.lambda_1024 << (term.exponent - A_WINDOW[0]))
        for term in terms
    )
    assert expected > EXACT
    assert expected % 2, "a float64 of this size has no last bit"
    assert total.integers().tolist() == [[expected] * 16]
    before = total.residual().tobytes()
    assert (
        before == np.full((1, 16), float(expected) * (0.25 * 2.0 ** (A_WINDOW[0] - 10))).tobytes()
    )
    only = LayerSum(1, 16, "hadamard")
    only.add(*terms[:-1])
    total.remove(terms[-1])
    assert total.residual().tobytes() == only.residual().tobytes() != before


def test_no_slot_of_a_further_basis_is_leased_while_one_of_an_earlier_is_free() -> None:
    """K = 2 of 4 slots: first come 0 and 1, then 2; a slot that comes free again goes first."""
    state = Slots((Slot(),) * 4, ttl_s=900, hold_s=86_400)
    given_out: list[int] = []

    def play(*events: object) -> None:
        nonlocal state
        for event in events:
            state, actions = leases.step(state, event)  # pyright: ignore[reportArgumentType]
            given_out.extend(a.slot for a in actions if isinstance(a, Grant))

    play(Ask(0, "ana", "a"), Ask(0, "ben", "b"), Ask(0, "cid", "c"))
    play(Commit("ana", 0, 1), Commit("ben", 1, 1), Commit("cid", 2, 1))
    play(Draw(frozenset({0, 1, 2})), Publish(), Withdraw("ben", 1, 1))
    play(Ask(0, "dan", "d"))  # slot 1 is in the newest release still
    play(Draw(frozenset({0, 2})), Publish(), Ask(0, "eve", "e"))
    play(GiveBack("eve", 1, 2), Ask(0, "fay", "f"))

    assert given_out == [0, 1, 2, 3, 1, 1]
