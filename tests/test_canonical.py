"""Canonical JSON: one value, one spelling (security.md 4.1)."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.canonical import (
    decode,
    decode_base64,
    decode_text,
    encode,
    encode_base64,
    encode_text,
)
from orthofed.core.errors import VerificationFailed
from orthofed.core.fields import Fields

LARGEST = 2**53 - 1
ALPHABET = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) not in '"\\')
TEXTS = st.text(alphabet=ALPHABET, max_size=12)
VALUES = st.recursive(
    st.booleans() | st.integers(-LARGEST, LARGEST) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None)
@given(VALUES)
def test_every_value_survives_its_spelling(value: object) -> None:
    """Decode undoes encode, and the type of each number too: true is not 1."""
    data = encode(value)

    assert decode(data) == value
    assert encode(decode(data)) == data


@settings(derandomize=True, deadline=None, max_examples=400)
@given(
    st.binary(max_size=60) | st.text('{}[]",:0123456789-truefalsn .e', max_size=30).map(str.encode)
)
def test_bytes_that_decode_are_the_canonical_ones(data: bytes) -> None:
    """Whatever the bytes: refused with our own error, or accepted as the one spelling."""
    try:
        value = decode(data)
    except VerificationFailed:
        return

    assert encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" 1",
        b"1 ",
        b"01",
        b"-0",
        b"+1",
        b"1.0",
        b"1e3",
        b"null",
        b"NaN",
        b"Infinity",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'"\\u0041"',
        b'"\\/"',
        b'"\x7f"',
        b'"\x1f"',
        b'"\xc3\xa9"',
        b"9007199254740992",
        b"-9007199254740992",
        b"1" * 5_000,
        b"\xef\xbb\xbf1",
        b"[1,]",
        b"true false",
    ],
)
def test_a_second_spelling_is_refused(data: bytes) -> None:
    """White space, escapes, floats, null, duplicate or unsorted keys, wide integers, a BOM."""
    with pytest.raises(VerificationFailed) as refused:
        decode(data)

    assert refused.value.code == "not-canonical"


@pytest.mark.parametrize(
    "value",
    [1.0, None, b"x", (1,), {1: 2}, {"é": 1}, "tab\t", 'quote"', "back\\", 2**53, {"a": [None]}],
)
def test_what_canonical_json_cannot_express_is_refused(value: object) -> None:
    """The writer refuses what the reader would: nothing is signed that cannot be read."""
    with pytest.raises(VerificationFailed):
        encode(value)


def test_depth_8_is_accepted_and_9_refused_both_ways() -> None:
    """Eight containers inside one another are the most."""
    deep: object = 1
    for _ in range(8):
        deep = [deep]

    assert decode(encode(deep)) == deep
    with pytest.raises(VerificationFailed):
        encode([deep])
    with pytest.raises(VerificationFailed):
        decode(b"[" * 9 + b"]" * 9)


def test_a_million_brackets_are_refused_before_a_recursive_parser_sees_them() -> None:
    """T5: depth is counted first, in linear time."""
    started = time.monotonic()

    with pytest.raises(VerificationFailed, match="8 levels"):
        decode(b"[" * 1_000_000)

    assert time.monotonic() - started < 2


def test_brackets_behind_an_escaped_quotation_mark_are_not_hidden_from_the_count() -> None:
    """T5: the escape made the rest look like text; the parser met 100,000 levels and gave up."""
    for count in (1_000, 100_000):
        with pytest.raises(VerificationFailed) as refused:
            decode(b'["\\"",' + b"[" * count + b'"')

        assert refused.value.code == "not-canonical"


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=40))
def test_base64url_has_one_spelling(data: bytes) -> None:
    """Padding, the other alphabet and spare bits are refused."""
    text = encode_base64(data)

    assert decode_base64(text) == data
    assert "=" not in text


@pytest.mark.parametrize("text", ["AA==", "AB", "A", "AA A", "AA\n", "+/+/", "é"])
def test_a_second_spelling_of_base64url_is_refused(text: str) -> None:
    """`AB` decodes to the byte of `AA`, so only `AA` is allowed."""
    with pytest.raises(VerificationFailed):
        decode_base64(text)


def test_text_travels_in_normal_form_c() -> None:
    """A decomposed letter is composed by the writer and refused by the reader."""
    decomposed, composed = "e\u0301", "\u00e9"

    assert encode_text(decomposed) == encode_text(composed)
    assert decode_text(encode_text(decomposed)) == composed
    with pytest.raises(VerificationFailed, match="normal form C"):
        decode_text(encode_base64(decomposed.encode()))
    with pytest.raises(VerificationFailed, match="UTF-8"):
        decode_text(encode_base64(b"\xff"))


def test_a_body_has_exactly_its_fields() -> None:
    """A missing and an unknown field are refused, an optional one may be absent."""
    assert "b" not in Fields({"a": 1}, "a body", need=["a"], may=["b"])
    for value in ({}, {"a": 1, "c": 1}, {"b": 1}, [], 1, "a"):
        with pytest.raises(VerificationFailed, match="a body"):
            Fields(value, "a body", need=["a"], may=["b"])


@pytest.mark.parametrize("value", [True, "1", -1, 6, [1]])
def test_an_integer_field_takes_no_boolean_and_keeps_its_bounds(value: object) -> None:
    """`true` would pass for 1 in Python."""
    with pytest.raises(VerificationFailed, match="`a` of a body"):
        Fields({"a": value}, "a body", need=["a"]).integer("a", 0, 5)


@pytest.mark.parametrize("value", ["0" * 63, "0" * 65, "A" * 64, "0" * 63 + "\n", 1, "g" * 64])
def test_a_hex_field_is_lower_case_and_of_exact_length(value: object) -> None:
    """Ids are compared as text, so they have one spelling."""
    with pytest.raises(VerificationFailed, match="64 lower-case hex digits"):
        Fields({"a": value}, "a body", need=["a"]).hex("a")


def test_the_other_getters_refuse_what_they_do_not_name() -> None:
    """Text, choice and array, each with another type and out of bounds."""
    fields = Fields({"a": [1, 2], "b": "xyz", "c": ""}, "a body", need=["a", "b", "c"])

    assert fields.items("a", most=2) == [1, 2]
    assert fields.text("b", most=3) == "xyz"
    assert fields.one_of("b", ["xyz"]) == "xyz"
    for bad in (
        lambda: fields.items("a", most=1),
        lambda: fields.items("b", most=9),
        lambda: fields.text("b", most=2),
        lambda: fields.text("c"),
        lambda: fields.text("a"),
        lambda: fields.one_of("b", ["x"]),
        lambda: fields.one_of("a", ["x"]),
    ):
        with pytest.raises(VerificationFailed):
            bad()
