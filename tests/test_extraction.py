"""Taking a change apart by slots: exact shares in every family, floors that honest files keep."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orthofed.core.basis import FAMILIES, Family, block, integer_block
from orthofed.core.change import Change, Dense, LowRank, half_units
from orthofed.core.extraction import LayerParts, extract
from orthofed.core.layer import Layer
from orthofed.core.merge import Term, residual
from orthofed.core.quantise import Quantised, quantise
from orthofed.core.rounding import DType, apply, exact, round_once
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, plan_spec
from orthofed.core.stack import stacked

LAYER = Layer("unet.a.attn1.to_q", out=40, width=48)
LAMBDAS = {0: 614, 2: 1024, 3: 300}
RNG = np.random.default_rng(5)


def spec_of(family: Family, layer: Layer = LAYER) -> FederationSpec:
    return plan_spec(
        name="tiny",
        base=BaseModel("other", "tiny", "1", "ab" * 32, "CC0-1.0"),
        layers=(layer,),
        encoders=(Encoder("text_encoder", 16),),
        seed=bytes(range(32)),
        basis=family,
        rank=4,
    )


def quantised(slot: int, size: float = 0.01, layer: Layer = LAYER) -> Quantised:
    rng = np.random.default_rng(slot)
    return quantise((rng.standard_normal((layer.out, 4)) * size).astype(np.float32))


def terms_of(spec: FederationSpec, size: float = 0.01) -> list[Term]:
    layer = spec.layers[0]
    found: list[Term] = []
    for slot, share in LAMBDAS.items():
        b = integer_block(
            spec.basis, seed=spec.seed, layer=layer.path, width=layer.width, rank=4, slot=slot
        )
        a = quantised(slot, size, layer)
        found.append(Term(a.q, a.exponent, share, b))
    return found


def true_a(slot: int, size: float = 0.01, layer: Layer = LAYER) -> np.ndarray:
    a = quantised(slot, size, layer)
    return np.ldexp(a.q.astype(np.float64), a.exponent) * (LAMBDAS[slot] / 1024)


def lora(family: Family, dtype: DType, size: float = 0.01) -> LowRank:
    layer, terms = LAYER, terms_of(spec_of(family), size)
    up, down = stacked(terms, family=family, width=layer.width, out=layer.out, rank=16, dtype=dtype)
    return LowRank(exact(up, dtype), exact(down, dtype), dtype)


def checkpoint(family: Family, dtype: DType, size: float = 0.01) -> Dense:
    change = residual(
        terms_of(spec_of(family), size), family=family, width=LAYER.width, out=LAYER.out
    )
    weight = round_once(RNG.standard_normal((LAYER.out, LAYER.width)) * 0.03, dtype)
    return Dense.between(weight, apply(weight, change, dtype), dtypes=(dtype, dtype))


def parts_of(family: Family, change: Change) -> LayerParts:
    return extract(spec_of(family), LAYER, change, leased=list(LAMBDAS))


def worst(parts: LayerParts, size: float = 0.01) -> float:
    """Return the largest error of an A in units of its floor."""
    return max(
        float(np.linalg.norm(part.a - true_a(slot, size))) / part.floor
        for slot, part in parts.slots.items()
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_shares_add_up_to_everything(family: str) -> None:
    """Leased slots and the outside: the whole energy, of a LoRA and a checkpoint."""
    family = cast("Family", family)
    for change in (lora(family, "F32"), checkpoint(family, "F32")):
        parts = parts_of(family, change)

        total = sum(part.energy for part in parts.slots.values()) + parts.outside

        assert total == pytest.approx(parts.energy, rel=1e-9)
        assert parts.outside <= parts.floor**2


@pytest.mark.parametrize("family", ["hadamard", "haar"])
def test_a_share_is_the_norm_of_what_was_sent(family: str) -> None:
    """lambda^2 ||A_t||^2 / sum of all: the blocks are orthonormal, so nothing else is in it."""
    parts = parts_of(cast("Family", family), lora(cast("Family", family), "F32"))
    sent = {slot: float(np.sum(true_a(slot) ** 2)) for slot in LAMBDAS}

    for slot, part in parts.slots.items():
        share = sent[slot] / sum(sent.values())
        assert part.energy / parts.energy == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make", [lora, checkpoint])
def test_an_honest_file_stays_below_its_floor(make, family, dtype) -> None:
    """Rounding alone never reaches a floor: A of each slot, and what is outside of all."""
    for size in (0.01, 0.001):
        change = make(family, dtype, size)
        parts = parts_of(family, change)

        assert worst(parts, size) < 1
        assert parts.outside**0.5 < parts.floor


CAUGHT = [(make, "F16", family) for make in (lora, checkpoint) for family in FAMILIES]


@pytest.mark.parametrize(("make", "dtype", "family"), [*CAUGHT, (lora, "BF16", "hadamard")])
def test_one_percent_more_of_one_slot_is_above_its_floor(make, dtype, family) -> None:
    """The floor hides nothing that a person would care about: A of rms .02, W of rms .03.

    A bfloat16 LoRA of a family whose ``down`` is rounded too has a floor of 2 % here.
    """
    change = make(family, dtype, 0.02)
    part = parts_of(family, change).slots[0]

    assert np.linalg.norm(part.a - true_a(0, 0.02) * 1.01) > part.floor


@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_energy_in_a_free_slot_and_outside_of_all_is_seen(dtype: DType) -> None:
    """A thousandth of a LoRA's norm in slot 5, and as much in columns that no slot owns.

    A LoRA of the default basis has an exact ``down``, so its floor outside is float64's own.
    """
    honest, spec = lora("hadamard", dtype), spec_of("hadamard", Layer(LAYER.path, 40, 48))
    b = block("hadamard", seed=spec.seed, layer=LAYER.path, width=48, rank=4, slot=5)
    size = 1e-3 * np.sqrt(honest.energy) / np.sqrt(40)
    up = np.concatenate([honest.up, np.full((40, 1), size)], axis=1)
    down = np.concatenate([honest.down, b[:, :1].T.astype(np.float64)])
    parts = parts_of("hadamard", LowRank(up, down, dtype))
    plain = parts_of("hadamard", honest)

    assert plain.outside**0.5 < plain.floor < 1e-11 * np.sqrt(honest.energy)
    assert parts.outside > parts.floor**2
    assert parts.free == pytest.approx(parts.outside, rel=1e-6)
    assert parts.outside / parts.energy == pytest.approx(1e-6, rel=0.01)


def test_dense_noise_is_outside_and_not_in_a_free_slot_alone() -> None:
    """Noise of a tenth of a change's norm over all columns: leased slots get their share of it."""
    honest = checkpoint("hadamard", "F32")
    noise = RNG.standard_normal(honest.change.shape)
    noise *= 0.1 * np.sqrt(honest.energy) / np.linalg.norm(noise)
    parts = parts_of("hadamard", replace(honest, change=honest.change + noise))

    assert parts.outside / parts.energy == pytest.approx(0.01 * (1 - 12 / 48), rel=0.2)
    assert parts.outside**0.5 > parts.floor
    assert parts.free is not None
    assert 0 < parts.free <= parts.outside * 1.0001


def test_a_lost_change_is_not_called_a_lie() -> None:
    """In bfloat16 a small change is rounded away entry by entry: the floor counts that in full."""
    change = checkpoint("hadamard", "BF16", 1e-5)
    parts = parts_of("hadamard", change)

    assert worst(parts, 1e-5) < 1


@pytest.mark.parametrize("dtype", ["F16", "F32", "BF16"])
def test_half_a_unit_is_the_most_that_rounding_moves(dtype: DType) -> None:
    """Every rounded value is within half its own unit, from subnormals to thousands."""
    sizes = 10.0 ** np.arange(-8.0, 4.0)
    values = (RNG.standard_normal((len(sizes), 200)) * sizes[:, None]).ravel()
    rounded = exact(round_once(values, dtype), dtype)

    assert np.all(np.abs(rounded - values) <= half_units(rounded, dtype))


def test_an_empty_change_and_no_lease_have_no_energy() -> None:
    """Zero in, zero out; nothing is divided by it."""
    nothing = LowRank(np.zeros((40, 0)), np.zeros((0, 48)), "F16")

    for leased in ([], [0, 1]):
        parts = extract(spec_of("hadamard"), LAYER, nothing, leased=leased)
        assert (parts.energy, parts.outside, parts.free) == (0.0, 0.0, 0.0)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from([20, 48, 320]), st.integers(1, 5), st.data())
def test_what_a_contribution_does_lies_in_its_slot_in_integers(
    width: int, rank: int, data: st.DataObject
) -> None:
    """T11: dW (m I - S S^T) = 0 for the slot's signs S, whatever A somebody sends: no tolerance."""
    slot = data.draw(st.integers(0, width // rank - 1))
    seed = data.draw(st.binary(min_size=32, max_size=32))
    a = data.draw(arrays(np.int16, (3, rank), elements=st.integers(-32767, 32767)))
    s = integer_block(
        "hadamard", seed=seed, layer="to_q", width=width, rank=rank, slot=slot
    ).astype(np.int64)

    change = a.astype(np.int64) @ s.T

    assert not np.any(change @ (width * np.eye(width, dtype=np.int64) - s @ s.T))


@pytest.mark.parametrize("dtype", ["F32", "F16"])
@pytest.mark.parametrize("rank", [1, 2, 4, 8, 12, 20])
def test_few_ways_to_move_are_off_alike_and_nobody_is_accused_of_it(
    dtype: DType, rank: int
) -> None:
    """W is on the grid, so an entry's error is a function of its change, of which there are 2^r.

    Errors of a wide row then add up, up to rank 8 to more than independent ones could.
    """
    random = np.random.default_rng(rank)
    width, outputs = 1152, 64
    b = block("hadamard", seed=bytes(32), layer="c", width=width, rank=rank, slot=0).astype(
        np.float64
    )
    weight = random.uniform(0.02, 0.03, (outputs, width)).astype(
        {"F32": np.float32, "F16": np.float16}[dtype]
    )
    a = random.normal(size=(outputs, rank)) * {"F32": 5e-4, "F16": 5e-2}[dtype]
    after = (weight.astype(np.float64) + a @ b.T).astype(weight.dtype)

    change = Dense.between(weight, after, dtypes=(dtype, dtype))

    off = float(np.linalg.norm(change.times(b) - a))
    independent = float(np.sqrt(np.sum(change.half**2 @ np.sum(b**2, axis=1))))
    assert off < change.floor(b)
    assert (off > independent) == (rank <= 8)
    assert change.floor(b) <= independent * np.sqrt(width) * 1.01
