"""Capacity, ranks and sizes against the tables of method.md 4."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.errors import SpecError
from orthofed.core.slots import capacity, check_disjoint, columns, ranks_for, upload_bytes
from orthofed.core.spec import Layer

SD15 = [(320, 320, 30), (640, 640, 30), (1280, 1280, 36)]


def sd15_unet() -> list[Layer]:
    """Return layers with the counts of method.md 4.1; attn2 k and v read 768."""
    layers = [Layer(f"unet.l{n}.{i}", n, m) for n, m, count in SD15 for i in range(count)]
    cross = [(320, 10), (640, 10), (1280, 12)]
    return layers + [Layer(f"unet.c{n}.{i}", n, 768) for n, count in cross for i in range(count)]


@pytest.mark.parametrize(
    ("rank", "slots", "megabytes"),
    [(4, 80, 0.80), (8, 40, 1.60), (16, 20, 3.19), (20, 16, 3.99), (32, 10, 6.39)],
)
def test_sd15_holds_what_the_table_says(rank: int, slots: int, megabytes: float) -> None:
    """Slots and upload of the UNet's attention."""
    layers = sd15_unet()
    ranks = {layer.width: rank for layer in layers}

    assert sum(layer.out for layer in layers) == 99_840
    assert capacity(layers, ranks) == slots
    assert round(upload_bytes(layers, ranks) / 1e6, 2) == megabytes


@pytest.mark.parametrize(
    ("slots", "ranks"),
    [
        (16, [20, 20, 20, 20]),
        (32, [8, 20, 20, 20]),
        (40, [8, 16, 16, 20]),
        (64, [4, 8, 12, 20]),
        (80, [4, 8, 8, 16]),
    ],
)
def test_rank_falls_where_a_layer_is_narrow(slots: int, ranks: list[int]) -> None:
    """method.md 4.2, r_max = 20."""
    found = ranks_for((320, 640, 768, 1280), capacity=slots, max_rank=20)

    assert list(found.values()) == ranks


def test_a_rank_beyond_the_narrowest_layer_names_the_bound() -> None:
    """The error says what would do."""
    with pytest.raises(SpecError) as caught:
        capacity(sd15_unet(), dict.fromkeys((320, 640, 768, 1280), 400))

    assert caught.value.what == "rank 400 over 128 layers"
    assert "320 columns" in caught.value.why
    assert caught.value.fix == "choose a rank from 1 to 320"


def test_nothing_to_adapt_and_zero_counts_are_refused() -> None:
    """Empty and zero are named cases."""
    with pytest.raises(SpecError):
        capacity([], {})
    with pytest.raises(SpecError):
        ranks_for([320], capacity=0, max_rank=4)
    with pytest.raises(SpecError):
        ranks_for([320], capacity=81, max_rank=4)
    with pytest.raises(SpecError):
        columns(-1, 4)
    with pytest.raises(SpecError):
        columns(0, 0)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 64), st.lists(st.integers(0, 50), max_size=12))
def test_slots_are_disjoint_exactly_when_their_numbers_differ(rank: int, taken: list[int]) -> None:
    """One number twice is found, whatever the order."""
    owned = [columns(slot, rank) for slot in taken]

    if len(set(taken)) == len(taken):
        check_disjoint(owned)
    else:
        with pytest.raises(SpecError):
            check_disjoint(owned)
