"""The bytes of a contribution: one legal header, one encoding of every value."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from orthofed.core.errors import ContributionRejected, InputError
from orthofed.core.layout import ContributionLayout, pack, read_exponents, read_tensor, unpack
from orthofed.core.quantise import Quantised, quantise
from orthofed.core.spec import BaseModel, Encoder, FederationSpec, Layer, plan_spec


def spec() -> FederationSpec:
    """Return two layers at rank 4 and two text encoders."""
    return plan_spec(
        name="toy-fed",
        base=BaseModel("sdxl", "toy", "1", "0" * 64, "MIT"),
        layers=[Layer("unet.b", 8, 24), Layer("unet.a", 6, 48)],
        encoders=[Encoder("text_encoder", 12), Encoder("text_encoder_2", 20)],
        seed=bytes(32),
        rank=4,
    )


def contents(layout: ContributionLayout, seed: int = 0) -> dict[str, Quantised]:
    rng = np.random.default_rng(seed)
    tensors: dict[str, Quantised] = {}
    for info in layout.content:
        values = rng.normal(0, 0.01, info.shape).astype(np.float32)
        low, high = layout.window(info.name)
        tensors[info.name] = quantise(values, low=low, high=high)
    return tensors


def test_names_and_shapes_follow_from_spec_and_lease() -> None:
    """Two triggers with 2 and 1 vectors; probes span both encoders."""
    layout = ContributionLayout(spec(), (2, 1))

    assert [(info.name, info.shape) for info in layout.tensors] == [
        ("a.unet.a", (6, 4)),
        ("a.unet.b", (8, 4)),
        ("embed.text_encoder.0", (2, 12)),
        ("embed.text_encoder.1", (1, 12)),
        ("embed.text_encoder_2.0", (2, 20)),
        ("embed.text_encoder_2.1", (1, 20)),
        ("exp", (8,)),
        ("probe.0", (4, 32)),
        ("probe.1", (4, 32)),
    ]
    assert layout.window("a.unet.a") == (-28, -16)
    assert layout.window("probe.0") == (-40, 0)


def test_layer_wise_tokens_have_a_row_for_each_layer_and_vector() -> None:
    """Three layers and two vectors are six rows in each encoder; the probe stays one."""
    places = ("down_blocks.0", "mid_block", "up_blocks.1")
    paths = [f"unet.{place}.attentions.0.transformer_blocks.0.attn2" for place in places]
    layout = ContributionLayout(replace(spec(), token_layers=tuple(paths)), (2, 1))

    shapes = {info.name: info.shape for info in layout.content}

    assert shapes["embed.text_encoder.0"] == (6, 12)
    assert shapes["embed.text_encoder_2.1"] == (3, 20)
    assert shapes["probe.0"] == (4, 32)
    blob = pack(layout, contents(layout))
    assert unpack(layout, blob)["embed.text_encoder.0"].q.shape == (6, 12)


def test_the_header_is_canonical_json_without_metadata() -> None:
    """security.md 6: names in order, offsets from 0, padded with spaces."""
    layout = ContributionLayout(spec(), (1,))

    text = layout.header[8:]
    body = json.loads(text)
    assert text.rstrip(b" ") == json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    assert len(text) % 8 == 0
    assert list(body) == [info.name for info in layout.tensors]


def test_a_blob_comes_back_as_it_was_and_the_library_agrees() -> None:
    """Integers and exponents; the reference reader sees the same names."""
    layout = ContributionLayout(spec(), (2, 1))
    tensors = contents(layout)

    blob = pack(layout, tensors)

    back = unpack(layout, blob)
    assert len(blob) == layout.size
    assert list(back) == [info.name for info in layout.content]
    for name, tensor in tensors.items():
        assert np.array_equal(back[name].q, tensor.q)
        assert back[name].exponent == tensor.exponent
    assert sorted(load(blob)) == [info.name for info in layout.tensors]


def test_one_tensor_can_be_read_from_its_own_bytes() -> None:
    """So that a merge holds one layer in memory."""
    layout = ContributionLayout(spec(), (1,))
    blob = pack(layout, contents(layout))
    start = len(layout.header)

    def part(offset: int, size: int) -> bytes:
        return blob[start + offset : start + offset + size]

    exponents = read_exponents(layout, part(layout.exponents.offset, layout.exponents.size))
    info = layout.by_name["a.unet.b"]
    tensor = read_tensor(layout, info.name, part(info.offset, info.size), exponents[info.name])

    assert np.array_equal(tensor.q, unpack(layout, blob)["a.unet.b"].q)
    with pytest.raises(ContributionRejected):
        read_tensor(layout, "a.unet.b", b"short", 0)
    with pytest.raises(ContributionRejected):
        read_tensor(layout, "exp", b"", 0)
    with pytest.raises(ContributionRejected):
        read_exponents(layout, b"short")


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_every_byte_of_the_header_counts(data: st.DataObject) -> None:
    """T5: compared, never parsed."""
    layout = ContributionLayout(spec(), (1,))
    blob = bytearray(pack(layout, contents(layout)))
    blob[data.draw(st.integers(0, len(layout.header) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(ContributionRejected) as caught:
        unpack(layout, bytes(blob))

    assert caught.value.code == "layout-differs"


@pytest.mark.parametrize("change", [-1, 1, 8])
def test_a_blob_of_another_size_is_refused(change: int) -> None:
    """Cut short, or with a tail."""
    layout = ContributionLayout(spec(), (1,))
    blob = pack(layout, contents(layout))

    with pytest.raises(ContributionRejected):
        unpack(layout, blob[:change] if change < 0 else blob + bytes(change))


def test_a_value_in_another_encoding_is_refused_both_ways() -> None:
    """-32768, an exponent outside, and halves that the writer would not have left."""
    layout = ContributionLayout(spec(), (1,))
    tensors = contents(layout)
    shape = tensors["a.unet.a"].q.shape
    for value, exponent in ((-32768, -20), (16383, -20), (20000, -15), (20000, -29)):
        bad = Quantised(np.full(shape, value, dtype=np.int16), exponent)
        with pytest.raises(ContributionRejected):
            pack(layout, {**tensors, "a.unet.a": bad})
        blob = bytearray(pack(layout, tensors))
        _overwrite(layout, blob, bad)

        with pytest.raises(ContributionRejected) as caught:
            unpack(layout, bytes(blob))

        assert caught.value.code == "not-normal-form"


def _overwrite(layout: ContributionLayout, blob: bytearray, bad: Quantised) -> None:
    """Put ``bad`` in the place of the first tensor, its exponent included."""
    start = len(layout.header)
    blob[start : start + bad.q.nbytes] = bad.q.tobytes()
    place = start + layout.exponents.offset
    blob[place : place + 2] = np.array([bad.exponent], dtype="<i2").tobytes()


def test_missing_surplus_and_misshapen_tensors_are_not_packed() -> None:
    """The client learns it before it sends."""
    layout = ContributionLayout(spec(), (1,))
    tensors = contents(layout)
    short = {name: tensor for name, tensor in tensors.items() if name != "probe.0"}
    turned = Quantised(tensors["a.unet.a"].q.T.copy(), tensors["a.unet.a"].exponent)

    for wrong in (short, {**tensors, "more": turned}, {**tensors, "a.unet.a": turned}):
        with pytest.raises(InputError) as caught:
            pack(layout, wrong)
        assert caught.value.code == "layout-differs"


@pytest.mark.parametrize("vectors", [(), (1,) * 5, (0,), (9,), (1, -1)])
def test_a_lease_beyond_the_limits_has_no_layout(vectors: tuple[int, ...]) -> None:
    """One to four triggers of one to eight vectors."""
    with pytest.raises(InputError):
        ContributionLayout(spec(), vectors)
