"""Quiet columns: which ones a slot gets, how a spec says it, and what a block is then."""

import base64
from dataclasses import replace

import numpy as np
import pytest

from orthofed.core.basis import Family, scale
from orthofed.core.errors import OrthoFedError
from orthofed.core.layer import Layer
from orthofed.core.published import published_layers
from orthofed.core.quiet import heard, with_quiet_columns
from orthofed.core.spec import MAX_SPEC_BYTES, FederationSpec, plan_spec
from orthofed.core.spec_blocks import block, integer_block

from .test_spec import BASE, TEXT, body_of, small, spelt

WIDE, FULL = Layer("unet.a", 6, 48), Layer("unet.b", 8, 24)


def _energies(spec: FederationSpec) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    return {layer.path: random.exponential(size=layer.width) for layer in spec.layers}


def _spec(basis: Family = "hadamard") -> FederationSpec:
    return small(layers=(WIDE, FULL), basis=basis)


@pytest.mark.parametrize("basis", ["hadamard", "haar"])
def test_slots_own_the_quietest_columns_and_no_two_share_one(basis: Family) -> None:
    """Half of the columns are used; they are the quieter half, dealt so that each has its share."""
    spec = _spec(basis)
    energies = _energies(spec)

    quiet = with_quiet_columns(spec, energies)

    wide, full = quiet.layers
    assert set(wide.order) == set(np.argsort(energies["unet.a"])[:24].tolist())
    assert full.order == (), "every column is used, so there is nothing to choose"
    natural = np.hstack([integer_block(spec, WIDE, slot) for slot in range(12)])
    dealt = np.hstack([integer_block(quiet, wide, slot) for slot in range(6)])
    assert np.array_equal(dealt, natural[:, list(wide.order)])
    together = np.hstack([block(quiet, wide, slot) for slot in range(6)]).astype(np.float64)
    assert np.allclose(together.T @ together, np.eye(24), atol=1e-3 if basis == "haar" else 1e-6)
    by_slot = energies["unet.a"][list(wide.order)].reshape(6, 4).sum(1)
    assert list(by_slot) == sorted(by_slot), "the quietest slot is leased first"
    assert scale(basis, 48) > 0


def test_what_is_heard_falls_where_there_is_a_choice_and_is_1_where_there_is_none() -> None:
    """By hand: the quieter half of an exponential hears .307 of its mean."""
    layers = (replace(WIDE, width=4096), FULL)
    spec = plan_spec(
        name="toy-fed",
        base=BASE,
        layers=layers,
        encoders=TEXT,
        seed=bytes(32),
        rank=4,
        capacity=6,
    )
    # Widths differ, so do ranks: 6 slots of 4 in 24 columns, of 4 in 4,096.
    energies = _energies(spec)

    quiet = heard(with_quiet_columns(spec, energies), energies)

    assert quiet[24] == pytest.approx(1)
    assert quiet[4096] < 0.01
    assert heard(spec, energies)[4096] == pytest.approx(1, abs=0.6)


def test_a_quiet_spec_survives_its_own_bytes_and_has_an_id_of_its_own() -> None:
    """An order is base64 of 16-bit numbers; a plain spec keeps its bytes."""
    spec = _spec()

    quiet = with_quiet_columns(spec, _energies(spec))

    assert FederationSpec.from_bytes(quiet.to_bytes()) == quiet
    assert quiet.id != spec.id
    told = body_of(quiet)["layers"][0]["order"]
    assert np.frombuffer(base64.b64decode(told), "<u2").tolist() == list(quiet.layers[0].order)
    assert "order" not in body_of(quiet)["layers"][1]


def test_the_largest_real_spec_fits_with_its_columns_and_its_words() -> None:
    """SDXL, both encoders, 32 slots of rank 20, and CLIP's half MiB of words."""
    words = tuple(f"word{number:05d}" for number in range(40_000))
    spec = plan_spec(
        name="toy-fed",
        base=replace(BASE, family="sdxl"),
        layers=published_layers("sdxl"),
        encoders=TEXT,
        seed=bytes(32),
        rank=20,
        reserved=words,
    )

    quiet = with_quiet_columns(spec, _energies(spec))

    size = len(quiet.to_bytes())
    assert MAX_SPEC_BYTES // 2 < size < MAX_SPEC_BYTES, "so half of it would not do"
    assert FederationSpec.from_bytes(quiet.to_bytes()) == quiet


def _u16(*columns: int) -> str:
    return base64.b64encode(np.array(columns, "<u2").tobytes()).decode()


@pytest.mark.parametrize(
    "order",
    [
        _u16(*range(23)),
        _u16(*range(25)),
        _u16(*range(23), 22),
        _u16(*range(23), 48),
        _u16(*range(24)) + "\n",
        _u16(*range(24))[:-1] + "=",
        "AAA",
        "AA==",
        "",
        "***",
        list(range(24)),
    ],
    ids=[
        *("short", "long", "twice", "outside", "line break", "cut", "bad padding", "odd", "empty"),
        *("no base64", "a list"),
    ],
)
def test_an_order_that_is_none_is_refused(order: object) -> None:
    """24 columns of 48, each once, in one spelling."""
    spec = _spec()
    body = body_of(with_quiet_columns(spec, _energies(spec)))
    body["layers"][0]["order"] = _u16(*range(24))
    FederationSpec.from_bytes(spelt(body))
    body["layers"][0]["order"] = order

    with pytest.raises(OrthoFedError) as caught:
        FederationSpec.from_bytes(spelt(body))

    assert caught.value.code in {"not-canonical", "bad-field", "bad-layer-order", "bad-spec"}


def test_an_order_where_there_is_nothing_to_choose_is_refused() -> None:
    """A layer whose columns are all used, and a family that has no columns to deal."""
    spec = _spec()
    full = replace(FULL, order=tuple(range(24)))
    dealt = replace(WIDE, order=tuple(range(24)))

    with pytest.raises(OrthoFedError, match="24 columns in unet"):
        replace(spec, layers=(WIDE, full))
    with pytest.raises(OrthoFedError, match="gaussian has none"):
        replace(_spec("gaussian"), layers=(dealt, FULL))
