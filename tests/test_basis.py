"""The bases against the golden values of method.md 2.6, and their laws in integers."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.basis import (
    FAMILIES,
    Family,
    block,
    epoch_layer,
    hadamard_signs,
    integer_block,
    scale,
)
from orthofed.core.draw import draw
from orthofed.core.errors import SpecError
from orthofed.core.haar import haar_table
from orthofed.core.hadamard import _draw, supported
from orthofed.core.stream import Stream

SEED = bytes(range(32))
LAYER = "unet.test"

GOLDEN = [
    (12, 0, [7, 8, 11, 4, 5], "33ea36686dea68e8f999e1763b9811624d9aa4beb63641001d95be0d717816d3"),
    (20, 0, [0, 8, 7, 17, 13], "864522cbc793245adaea0a57351bd6b7a8723c1e3fda4d9bc3dd572bf00c9f22"),
    (
        320,
        0,
        [198, 58, 34, 65, 14],
        "3a99f5454cb2a7bdaad0913f4e04c06778e045056583766f07cf716dde5f69de",
    ),
    (
        768,
        3,
        [192, 177, 503, 677, 521],
        "3357dfc6de33294e72d2af7679a1a2312f651a3948ee28e378487d7dc52588d9",
    ),
    (
        1152,
        8,
        [234, 1148, 949, 893, 794],
        "6508ee3bfcfab07524e0eb58c1a07415c13a110019c2e329bf3dfefa7c5cf1c6",
    ),
    (
        1280,
        3,
        [310, 325, 409, 1036, 823],
        "2ec6e6f693e44f7403b18c654d3831f84537dbf4b55340dc4a1f08ae11787f4f",
    ),
]

# Attention and MLP inputs, text encoders and context projections included.
WIDTHS = {
    "SD1.x": (320, 640, 768, 1280, 2560, 3072, 5120),
    "SD2.x": (320, 640, 1024, 1280, 2560, 4096, 5120),
    "SDXL": (640, 768, 1280, 2048, 2560, 3072, 5120),
    "SD3": (1536, 2048, 2432, 4096, 6144, 9728),
    "FLUX.1": (3072, 4096, 10240, 12288, 15360),
}


def signs(column: np.ndarray) -> str:
    return "".join("-" if x < 0 else "+" for x in column)


@pytest.mark.parametrize(("width", "rejected", "first", "digest"), GOLDEN)
def test_a_hadamard_basis_is_the_golden_one(
    width: int, rejected: int, first: list[int], digest: str
) -> None:
    """The whole matrix hashes to the reference, which two other programs computed."""
    matrix = hadamard_signs(width, range(width), seed=SEED, layer=LAYER)

    assert matrix.dtype == np.int8
    assert hashlib.sha256(matrix.tobytes()).hexdigest() == digest
    assert _draw(SEED, LAYER, width)[1][:5].tolist() == first
    assert _words_rejected(width) == rejected


def _words_rejected(width: int) -> int:
    stream = Stream("hadamard", SEED, width, path=LAYER)
    stream.bytes((width + 7) // 8)
    start = stream.position
    stream.below(np.arange(width, 1, -1))
    return (stream.position - start) // 2 - (width - 1)


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (4, ["+---", "+-++"]),
        (12, ["+-+---++-+-+", "+----+-++-++"]),
        (20, ["-+++--------+-++-+-+", "----+--++-+++-++++++"]),
    ],
)
def test_slot_zero_is_the_golden_one(width: int, columns: list[str]) -> None:
    """Rank 2, column by column from the top."""
    b = integer_block("hadamard", seed=SEED, layer=LAYER, width=width, rank=2, slot=0)

    assert [signs(column) for column in b.T] == columns


def test_a_slot_beyond_capacity_comes_from_a_fresh_epoch() -> None:
    """At m = 12, K = 6: slot 7 is slot 1 of epoch 1."""
    layer = epoch_layer(LAYER, 7 // 6)

    b = integer_block("hadamard", seed=SEED, layer=layer, width=12, rank=2, slot=7 % 6)

    assert [signs(column) for column in b.T] == ["+--+----+-++", "++---+---+-+"]


def test_the_random_draw_is_the_golden_one() -> None:
    """The paper's own choice of columns."""
    drawn = [draw(i, seed=SEED, layer=LAYER, width=320, rank=5) for i in (0, 1)]

    assert drawn == [(241, 203, 228, 316, 41), (33, 281, 171, 66, 85)]


def test_the_gaussian_block_is_the_golden_one() -> None:
    """Integers of variance 64, no libm."""
    b = integer_block("gaussian", seed=SEED, layer=LAYER, width=320, rank=20, slot=0)

    assert b[:6, 0].tolist() == [-9, 3, -5, -6, 11, -1]
    assert hashlib.sha256(b.astype("<i2").tobytes()).hexdigest() == (
        "21e657ccefac56ba32e3743d4581ec3df16640a33cf8263d9331e40e4690a13e"
    )


def test_the_haar_table_is_the_golden_one() -> None:
    """Rounded to int16, LAPACK's last bits do not show."""
    table = haar_table(320, seed=SEED)

    assert table[0, :4].tolist() == [214, -931, 682, -3459]
    assert hashlib.sha256(table.astype("<i2").tobytes()).hexdigest() == (
        "e152cee8df2fafa6d31e4fbcfe01ffe38b9fbbe4118805383c86c4ea97252def"
    )


def test_a_haar_table_is_nearly_orthogonal() -> None:
    """O^T O - I stays below 4e-4."""
    o = haar_table(320, seed=SEED).astype(np.float64) * scale("haar", 320)

    assert float(np.abs(o.T @ o - np.eye(320)).max()) < 4e-4


@pytest.mark.parametrize("model", WIDTHS)
def test_every_linear_width_of_the_known_models_works(model: str) -> None:
    """48 columns from both ends are orthogonal, in integers."""
    for width in WIDTHS[model]:
        picked = [*range(24), *range(width - 24, width)]

        b = hadamard_signs(width, picked, seed=SEED, layer=LAYER).astype(np.int64)

        assert np.array_equal(b.T @ b, width * np.eye(48, dtype=np.int64))


def test_most_multiples_of_64_are_supported() -> None:
    """232 of the 256 up to 16384 (method.md 2.2)."""
    assert sum(supported(64 * k) for k in range(1, 257)) == 232


@pytest.mark.parametrize("width", [0, 3, 6, 92, 65537])
def test_an_unknown_width_names_the_families_that_work(width: int) -> None:
    """The error is a way out, not a dead end."""
    with pytest.raises(SpecError) as caught:
        hadamard_signs(width, [0], seed=SEED, layer=LAYER)

    assert caught.value.code == "width-not-supported"
    assert "haar" in caught.value.fix
    assert "gaussian" in caught.value.fix


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.sampled_from([12, 36, 320, 768, 1152]), st.data())
def test_two_slots_never_share_a_direction(seed: bytes, width: int, data: st.DataObject) -> None:
    """block(i)^T block(j) is m I or 0, in integers: no tolerance."""
    rank = data.draw(st.integers(1, 12))
    i, j = (data.draw(st.integers(0, width // rank - 1)) for _ in range(2))

    b_i, b_j = (
        integer_block("hadamard", seed=seed, layer="q", width=width, rank=rank, slot=s).astype(int)
        for s in (i, j)
    )

    assert np.array_equal(b_i.T @ b_j, width * np.eye(rank, dtype=int) * (i == j))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_is_the_integers_times_the_scale(family: Family) -> None:
    """Float32, rounded once; every column has norm 1, for gaussian on average."""
    b = integer_block(family, seed=SEED, layer=LAYER, width=128, rank=8, slot=3)

    unit = block(family, seed=SEED, layer=LAYER, width=128, rank=8, slot=3)

    assert unit.dtype == np.float32
    assert np.array_equal(unit, (b * scale(family, 128)).astype(np.float32))
    assert abs(float(np.mean(np.sum(unit.astype(float) ** 2, axis=0))) - 1) < 0.1


def test_an_order_deals_out_other_columns() -> None:
    """Quiet columns: slot 1 of rank 2 owns order[2] and order[3]."""
    order = [5, 3, 1, 4, 2, 0]

    b = integer_block("hadamard", seed=SEED, layer=LAYER, width=12, rank=2, slot=1, order=order)

    assert np.array_equal(b, hadamard_signs(12, [1, 4], seed=SEED, layer=LAYER))


def test_a_table_replaces_the_computed_one() -> None:
    """A client whose LAPACK differs uses the operator's T."""
    table = np.arange(144, dtype=np.int16).reshape(12, 12)

    b = integer_block("haar", seed=SEED, layer=LAYER, width=12, rank=2, slot=1, table=table)

    assert np.array_equal(b, table[:, 2:4])


@pytest.mark.parametrize(("rank", "slot"), [(0, 0), (2, -1), (2, 6), (13, 0)])
def test_a_slot_that_is_not_there_is_refused(rank: int, slot: int) -> None:
    """A width of 12 holds six slots of rank 2."""
    with pytest.raises(SpecError):
        integer_block("hadamard", seed=SEED, layer=LAYER, width=12, rank=rank, slot=slot)


def test_a_slot_beyond_the_dealt_columns_is_refused_in_every_way() -> None:
    """With a table, and with an order that lists fewer columns than the layer has."""
    with pytest.raises(SpecError) as caught:
        integer_block("haar", seed=SEED, layer=LAYER, width=12, rank=2, slot=6)
    assert caught.value.code == "no-such-slot"

    with pytest.raises(SpecError) as caught:
        integer_block(
            "hadamard", seed=SEED, layer=LAYER, width=12, rank=2, slot=2, order=[5, 3, 1, 4]
        )
    assert caught.value.code == "no-such-slot"


def test_a_column_outside_the_matrix_is_refused() -> None:
    """Also a negative one, which numpy would take from the end."""
    for column in (-1, 12):
        with pytest.raises(SpecError):
            hadamard_signs(12, [column], seed=SEED, layer=LAYER)


def test_bounds_of_draw_haar_and_epoch_are_kept() -> None:
    """Each with the family or the number that would do."""
    with pytest.raises(SpecError):
        draw(0, seed=SEED, layer=LAYER, width=4, rank=5)
    with pytest.raises(SpecError):
        haar_table(8193, seed=SEED)
    with pytest.raises(SpecError):
        epoch_layer(LAYER, -1)


@pytest.mark.parametrize("width", [640, 768, 1280, 2048, 12288])
def test_a_block_never_needs_a_square_of_the_width(width: int) -> None:
    """At its peak: the block, one more of its size, and lists as long as a column."""
    tracemalloc.start()
    try:
        integer_block("hadamard", seed=SEED, layer=f"peak.{width}", width=width, rank=20, slot=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < width * (20 * 8 + 200)
