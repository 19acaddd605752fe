"""Headers of safetensors files: one way to write, and nothing doubtful read."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from orthofed.core.errors import InputError
from orthofed.core.tensorfile import (
    TensorInfo,
    header_bytes,
    header_length,
    parse_header,
    read_tensor,
)

ENTRIES = [("b.weight", "F16", (2, 3)), ("a.alpha", "F16", ()), ("c", "F16", (0, 4))]


def file_of(text: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(*, dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> object:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def read(raw: bytes, *, ours: bool = False) -> object:
    return parse_header(raw, file_size=len(raw), ours=ours)


def test_the_header_is_spelt_in_one_way() -> None:
    """Keys sorted, compact, padded with spaces to a multiple of 8."""
    header = header_bytes(ENTRIES, {"z": "1", "a": "2"})

    text = header[8:].decode()
    assert struct.unpack("<Q", header[:8])[0] == len(text)
    assert len(text) % 8 == 0
    assert text.rstrip() == (
        '{"__metadata__":{"a":"2","z":"1"},'
        '"a.alpha":{"data_offsets":[0,2],"dtype":"F16","shape":[]},'
        '"b.weight":{"data_offsets":[2,14],"dtype":"F16","shape":[2,3]},'
        '"c":{"data_offsets":[14,14],"dtype":"F16","shape":[0,4]}}'
    )
    assert header == header_bytes(reversed(ENTRIES), {"a": "2", "z": "1"})


def test_the_reference_library_reads_what_we_write() -> None:
    """The same names, shapes and values."""
    values = np.arange(7, dtype=np.float16)
    raw = header_bytes(ENTRIES, {"format": "pt"}) + values.tobytes()

    tensors = load(raw)

    assert tensors["a.alpha"].tolist() == 0.0
    assert tensors["b.weight"].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("keep_order", [True, False])
def test_our_own_headers_pass_the_strict_reader(*, keep_order: bool) -> None:
    """By name, or in the order of a base model."""
    raw = header_bytes(ENTRIES, {"format": "pt"}, keep_order=keep_order) + bytes(14)

    header = parse_header(raw, file_size=len(raw), ours=True)

    assert header.data_start == len(raw) - 14
    assert header.metadata == {"format": "pt"}
    assert {(t.name, t.dtype, t.shape) for t in header.tensors} == set(ENTRIES)
    assert header.tensors[0].name == ("b.weight" if keep_order else "a.alpha")


def test_another_writers_header_is_read_but_is_not_ours() -> None:
    """Blanks, or an order that is neither by name nor by offset."""
    text = json.dumps({"a": entry()}).encode()
    raw = file_of(text, bytes(4))

    assert read(raw)
    with pytest.raises(InputError):
        read(raw, ours=True)


def test_an_old_text_encoders_position_ids_are_read_but_not_written() -> None:
    """I64 stands in base models only."""
    text = json.dumps(
        {"p": entry(dtype="I64", shape=[2], offsets=[0, 16])}, separators=(",", ":")
    ).encode()
    raw = file_of(text + b" " * (-len(text) % 8), struct.pack("<qq", 0, 1))

    header = parse_header(raw, file_size=len(raw))

    assert read_tensor(header.tensors[0], raw[header.data_start :]).tolist() == [0, 1]
    with pytest.raises(InputError):
        read(raw, ours=True)


GOOD = json.dumps({"a": entry()}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"1234567",
        file_of(GOOD, bytes(4), length=2**63),
        file_of(GOOD, bytes(4), length=1),
        file_of(GOOD, bytes(4), length=len(GOOD) + 5),
        file_of(GOOD, bytes(3)),
        file_of(GOOD, bytes(5)),
        file_of(b" " + GOOD, bytes(4)),
        file_of(b"\x80\x04\x95" + GOOD, bytes(4)),
        file_of(b"[1]"),
        file_of(b"{" * 5000),
        file_of(b'{"a":' * 100_000),
        file_of(b'{"a":NaN}'),
        file_of(b'{"a":1.0}'),
        file_of(b'{"a":1e9}'),
        file_of(b'{"a":12345678901234567}'),
        file_of(b'{"a":{"dtype":"F16","shape":[-0],"data_offsets":[0,0]}}'),
        file_of(b'{"a":{"dtype":"F16","shape":[1],"data_offsets":[-0,2]}}', bytes(2)),
        file_of(b'{"\\ud800":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}', bytes(2)),
        file_of(b'{"__metadata__":{"a":"\\udc00"}}'),
        file_of(b'{"__metadata__":{"\\ud800":"a"}}'),
        file_of(json.dumps({"a": entry(shape=[10**15, 10**15, 0], offsets=[0, 0])}).encode()),
        file_of(b'{"a":{},"a":{}}'),
        file_of(b'{"__metadata__":{"a":"1","a":"2"}}'),
        file_of(b'{"__metadata__":{"a":1}}'),
        file_of(b'{"__metadata__":[]}'),
        file_of(json.dumps({"__metadata__": {str(i): "" for i in range(65)}}).encode()),
        file_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":0}}', bytes(4)),
        file_of(b'{"a":{"dtype":"F32","shape":[1]}}', bytes(4)),
        *(
            file_of(json.dumps({"a": bad}).encode(), bytes(4))
            for bad in (
                entry(dtype="F64"),
                entry(shape=[1] * 5),
                entry(shape=[True]),
                entry(shape=[-1]),
                entry(shape="1"),
                entry(shape=[2]),
                entry(shape=[10**9, 10**6]),
                entry(offsets=[0, 4, 4]),
                entry(offsets=[4, 0]),
                entry(offsets=[1, 5]),
                entry(offsets=[0, 8]),
                7,
            )
        ),
        file_of(json.dumps({"a": entry(shape=[0, 10**17], offsets=[0, 0])}).encode()),
        file_of(json.dumps({"a": entry(), "b": entry()}).encode(), bytes(4)),
        file_of(json.dumps({"a": entry(), "b": entry(offsets=[8, 12])}).encode(), bytes(12)),
    ],
)
def test_anything_doubtful_is_refused(raw: bytes) -> None:
    """T5, T8: lengths, duplicate keys, types, gaps, overlaps, tails, nesting."""
    with pytest.raises(InputError) as caught:
        read(raw)

    assert caught.value.code == "bad-tensor-file"


def test_a_character_of_two_escapes_is_a_character() -> None:
    """Outside the first plane JSON spells one as a pair of surrogates."""
    raw = file_of(b'{"__metadata__":{"a":"\\ud83d\\ude00"}}')

    header = parse_header(raw, file_size=len(raw))

    assert header.metadata == {"a": "\U0001f600"}


def test_a_header_beyond_one_mebibyte_is_refused_by_its_length() -> None:
    """T5: before a byte of it is read."""
    with pytest.raises(InputError):
        header_length(struct.pack("<Q", (1 << 20) + 1), file_size=1 << 40)

    assert header_length(struct.pack("<Q", 1 << 20), file_size=1 << 40) == 1 << 20


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_header_gives_our_error_or_a_consistent_answer(data: st.DataObject) -> None:
    """Three bytes anywhere: never another exception, never tensors beyond the file."""
    raw = bytearray(header_bytes(ENTRIES, {"format": "pt"}) + bytes(14))
    for _ in range(3):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    try:
        header = parse_header(bytes(raw), file_size=len(raw))
    except InputError:
        return
    assert sum(t.size for t in header.tensors) == len(raw) - header.data_start


@pytest.mark.parametrize(
    ("dtype", "raw"),
    [
        ("F32", struct.pack("<f", float("nan"))),
        ("F16", b"\x00\x7c"),
        ("BF16", b"\x80\xff"),
    ],
)
def test_a_value_that_is_not_finite_is_refused(dtype: str, raw: bytes) -> None:
    """In every type that has such values."""
    with pytest.raises(InputError):
        read_tensor(TensorInfo("a", dtype, (1,), 0, len(raw)), raw)


def test_too_few_bytes_and_a_name_twice_are_refused() -> None:
    """The reader's and the writer's own mistakes."""
    with pytest.raises(InputError):
        read_tensor(TensorInfo("a", "F32", (1,), 0, 4), b"123")
    with pytest.raises(InputError):
        header_bytes([("a", "F32", (1,)), ("a", "F32", (1,))], {})
