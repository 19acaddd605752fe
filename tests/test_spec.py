"""What a federation agrees on: one spec, one spelling, one id."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.basis import Family
from orthofed.core.errors import OrthoFedError, SpecError, VerificationFailed
from orthofed.core.published import published_layers
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, Layer, Limits, plan_spec

BASE = BaseModel("sd1", "runwayml/stable-diffusion-v1-5", "main", "a" * 64, "CreativeML")
TEXT = (Encoder("text_encoder", 768),)


def small(
    *,
    layers: tuple[Layer, ...] = (Layer("unet.b", 8, 24), Layer("unet.a", 6, 48)),
    basis: Family = "hadamard",
    rank: int | None = 4,
    capacity: int | None = None,
) -> FederationSpec:
    """Return a spec of two layers with six slots."""
    return plan_spec(
        name="toy-fed",
        base=BASE,
        layers=layers,
        encoders=TEXT,
        seed=bytes(32),
        basis=basis,
        rank=rank,
        capacity=capacity,
        reserved=("fox", "cat"),
    )


def test_a_spec_survives_its_own_bytes() -> None:
    """And its id is that of the bytes, whatever order the layers came in."""
    spec = small()

    again = FederationSpec.from_bytes(spec.to_bytes())

    assert again == spec
    assert again.id == spec.id
    assert [layer.path for layer in spec.layers] == ["unet.a", "unet.b"]
    assert spec.reserved == ("cat", "fox")
    assert (spec.capacity, spec.rank(48), spec.layer_rank(spec.layers[0])) == (6, 4, 4)


def test_a_spec_of_a_real_base_plans_as_the_tables_say() -> None:
    """SD1.5 with CLIP-L at r = 20; SDXL with both encoders at K = 64 (method.md 4)."""
    xl = replace(BASE, family="sdxl")
    both = (Encoder("text_encoder", 768), Encoder("text_encoder_2", 1280))

    one = plan_spec(
        name="toy-fed",
        base=BASE,
        layers=published_layers("sd15"),
        encoders=TEXT,
        seed=bytes(32),
        rank=20,
    )
    two = plan_spec(
        name="toy-fed",
        base=xl,
        layers=published_layers("sdxl"),
        encoders=both,
        seed=bytes(32),
        capacity=64,
    )

    assert (one.capacity, len(one.layers)) == (16, 176)
    assert two.ranks == ((640, 8), (768, 12), (1280, 20), (2048, 20))


def test_a_convolution_has_its_kernel_in_the_spec_and_a_linear_layer_has_no_such_field() -> None:
    """Specs of linear layers keep the bytes and the id that they had before convolutions."""
    convolution = Layer("unet.c", 6, 108, (3, 3))
    spec = small(layers=(convolution, Layer("unet.b", 8, 24)))

    first, second = body_of(spec)["layers"]

    assert first == {"out": 8, "path": "unet.b", "width": 24}
    assert second == {"kernel": [3, 3], "out": 6, "path": "unet.c", "width": 108}
    assert FederationSpec.from_bytes(spec.to_bytes()) == spec
    assert spec.layers[1].shape == (6, 12, 3, 3)
    assert small().id == "186f3c9cc978e75190c17260451b39901ed99641b06bf18de10c949e1d3049e9"


@pytest.mark.parametrize(
    "kernel", [[3], [3, 3, 3], [3, True], [True, 3], [0, 3], [5, 5], [-3, -3], "3", []]
)
def test_a_kernel_that_no_weight_has_is_refused(kernel: object) -> None:
    """Two positive integers whose product divides the width."""
    body = body_of(small(layers=(Layer("unet.c", 6, 108, (3, 3)),)))
    body["layers"][0]["kernel"] = kernel

    with pytest.raises(OrthoFedError) as caught:
        FederationSpec.from_bytes(spelt(body))

    assert caught.value.code in {"bad-field", "bad-layer-kernel"}


def test_a_haar_spec_carries_the_hash_of_its_tables() -> None:
    """The operator's T is the norm (method.md 2.4)."""
    spec = small(basis="haar")

    assert [width for width, _ in spec.tables] == [24, 48]
    assert FederationSpec.from_bytes(spec.to_bytes()) == spec
    with pytest.raises(SpecError):
        replace(spec, tables=())
    with pytest.raises(SpecError):
        replace(small(), tables=spec.tables)


ATTENTIONS = tuple(
    f"unet.{stage}.attentions.0.transformer_blocks.0.attn2"
    for stage in ("down_blocks.0", "mid_block", "up_blocks.1")
)


def test_token_layers_are_spelt_only_where_there_are_some() -> None:
    """A federation of ordinary tokens keeps its bytes and its id; one of layer-wise has its own."""
    plain, layered = small(), replace(small(), token_layers=ATTENTIONS)

    assert plain.id == "186f3c9cc978e75190c17260451b39901ed99641b06bf18de10c949e1d3049e9"
    assert FederationSpec.from_bytes(layered.to_bytes()) == layered
    assert layered.id != plain.id
    assert (plain.token_sets, layered.token_sets) == (1, 3)


def test_a_prompt_is_spelt_only_where_it_is_another_than_usual() -> None:
    """A federation without one keeps its bytes and its id; the usual one has no second spelling."""
    plain, drawn = small(), replace(small(), prompt="a peeps drawing of {}, smiling")
    spelt_out = spelt({**body_of(plain), "prompt": plain.prompt})

    assert plain.id == "186f3c9cc978e75190c17260451b39901ed99641b06bf18de10c949e1d3049e9"
    assert FederationSpec.from_bytes(drawn.to_bytes()) == drawn
    assert drawn.id != plain.id
    with pytest.raises(VerificationFailed, match="prompt"):
        FederationSpec.from_bytes(spelt_out)


@pytest.mark.parametrize(
    "layers",
    [
        ATTENTIONS[::-1],
        (ATTENTIONS[0], ATTENTIONS[0]),
        ("unet.mid_block.attentions.0.transformer_blocks.0.attn1",),
        ("text_encoder.mid_block.attn2",),
        tuple(ATTENTIONS[1].replace(".0.attn2", f".{n}.attn2") for n in range(257)),
    ],
)
def test_token_layers_stand_as_the_unet_runs_them(layers: tuple[str, ...]) -> None:
    """Both sides count sets of vectors by their place in this list."""
    with pytest.raises(SpecError):
        replace(small(), token_layers=layers)


def test_a_width_without_hadamard_matrix_names_the_families_that_work() -> None:
    """The text says which layer, and what to choose instead."""
    layers = (Layer("unet.odd", 8, 92),)

    with pytest.raises(SpecError) as caught:
        small(layers=layers)

    assert caught.value.code == "width-not-supported"
    assert "92" in caught.value.what
    assert "unet.odd" in caught.value.what
    assert caught.value.fix == "choose the basis family haar or gaussian"
    assert small(layers=layers, basis="gaussian").capacity == 23


def test_a_width_too_wide_for_a_table_is_refused_for_haar() -> None:
    """Above 8192 only the other two work."""
    with pytest.raises(SpecError) as caught:
        small(layers=(Layer("unet.mlp", 8, 12288),), basis="haar")

    assert caught.value.fix == "choose the basis family hadamard or gaussian"


@pytest.mark.parametrize(
    ("rank", "capacity"), [(0, None), (25, None), (None, 0), (None, 7), (-1, None)]
)
def test_ranks_and_capacities_that_do_not_fit_are_refused(
    rank: int | None, capacity: int | None
) -> None:
    """The narrowest layer has 24 columns."""
    with pytest.raises(SpecError):
        small(rank=rank, capacity=capacity)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Toy Fed"},
        {"name": "toy\n"},
        {"base": replace(BASE, family="sd9")},
        {"base": replace(BASE, name="<script>")},
        {"base": replace(BASE, fingerprint="A" * 64)},
        {"seed": bytes(31)},
        {"ranks": ((24, 4),)},
        {"ranks": ((48, 4), (24, 4))},
        {"layers": (Layer("unet.b", 8, 24), Layer("unet.a", 6, 48))},
        {"layers": ()},
        {"encoders": ()},
        {"encoders": (Encoder("../up", 768),)},
        {"encoders": (Encoder("text_encoder", 0),)},
        {"capacity": 0},
        {"capacity": 7},
        {"lambda_1024": 2049},
        {"lambda_1024": -1},
        {"exponent_low": -27},
        {"exponent_low": -41, "exponent_high": -29},
        {"limits": Limits(ttl_s=0)},
        {"limits": Limits(max_vectors=9)},
        {"reserved": ("fox", "cat")},
        {"reserved": ("Fox",)},
        {"prompt": "a photo"},
        {"prompt": "{} beside {}"},
        {"prompt": "a {photo} of {}"},
        {"prompt": 'a "photo" of {}'},
        {"prompt": "a `photo` of {}"},
        {"prompt": "a photo\nof {}"},
        {"prompt": "x" * 151 + "{}"},
    ],
)
def test_a_value_out_of_bounds_makes_no_spec(change: dict[str, object]) -> None:
    """Every instance is a legal spec."""
    with pytest.raises(SpecError):
        replace(small(), **change)


@pytest.mark.parametrize("path", ["", "a b", "a/b", "a" * 256, "a\n"])
def test_a_layer_path_is_plain(path: str) -> None:
    """It becomes a key in files and a part of a stream's input."""
    with pytest.raises(SpecError):
        Layer(path, 4, 4)


@pytest.mark.parametrize("size", [0, 65537])
def test_a_layer_size_is_bounded(size: int) -> None:
    """Outputs and inputs alike."""
    with pytest.raises(SpecError):
        Layer("a", size, 4)
    with pytest.raises(SpecError):
        Layer("a", 4, size)


def test_an_unknown_width_has_no_rank() -> None:
    """Not 0, not a default."""
    with pytest.raises(SpecError):
        small().rank(768)


def body_of(spec: FederationSpec) -> dict[str, Any]:
    return json.loads(spec.to_bytes())


def spelt(body: dict[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def test_fields_added_missing_or_of_another_type_are_refused() -> None:
    """A new field is a new version."""
    body = body_of(small())
    cases = [
        {**body, "extra": 1},
        {k: v for k, v in body.items() if k != "capacity"},
        {**body, "capacity": "6"},
        {**body, "capacity": True},
        {**body, "reserved": [1]},
        {**body, "layers": [{"out": 8, "path": "unet.b", "width": 24, "bias": 1}]},
        {**body, "basis": "fourier"},
        {**body, "tables": []},
        {**body, "token_layers": []},
        {**body, "token_layers": [1]},
        {**body, "v": 0},
    ]

    for case in cases:
        with pytest.raises(OrthoFedError) as caught:
            FederationSpec.from_bytes(spelt(case))
        assert isinstance(caught.value, VerificationFailed | SpecError)


def test_an_old_program_says_that_it_is_old() -> None:
    """A spec of version 2 may have any fields; the reader asks for an upgrade."""
    with pytest.raises(SpecError) as caught:
        FederationSpec.from_bytes(b'{"new":[1],"v":2}')

    assert caught.value.code == "spec-version"
    assert "upgrade" in caught.value.fix


def test_another_spelling_or_a_giant_is_no_spec() -> None:
    """T5: size before parsing; then the same bytes or nothing."""
    data = small().to_bytes()

    with pytest.raises(VerificationFailed):
        FederationSpec.from_bytes(data + b" ")
    with pytest.raises(VerificationFailed) as caught:
        FederationSpec.from_bytes(b"[" * ((2 << 20) + 1))
    assert caught.value.code == "spec-too-large"
    with pytest.raises(VerificationFailed):
        FederationSpec.from_bytes(b"[1]")


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.data())
def test_a_flipped_byte_gives_an_error_or_another_id(data: st.DataObject) -> None:
    """Nothing but our own errors, and never the same federation."""
    raw = bytearray(small().to_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))

    try:
        other = FederationSpec.from_bytes(bytes(raw))
    except OrthoFedError:
        return
    assert other.id != small().id
