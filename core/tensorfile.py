"""The header of a safetensors file: our writer, and a reader that takes nothing doubtful.

Writer: compact ASCII JSON, keys sorted, data in the same order without gaps, padded with spaces to
a multiple of 8 (formats.md 1 law 2); equal content, equal bytes. Reader (T5, T8; security.md 6):
1 MiB of header, no key twice at any depth, no sign, no fraction, no half character, integers of 16
digits, four dimensions, extents that match, no gap, overlap or tail. I64 is taken in base models
only, where old text encoders keep `position_ids`. Cost: linear in the header. Opening and hashing
files is the caller's.
"""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn, cast

import numpy as np
from jaxtyping import Shaped

from .errors import InputError
from .rounding import all_finite

SIZES: Mapping[str, int] = {"F16": 2, "BF16": 2, "F32": 4, "I16": 2}
"""Bytes of one entry, of the types that we write."""
MAX_HEADER = 1 << 20
_READ_SIZES: Mapping[str, int] = {**SIZES, "I64": 8}
_NUMPY = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "I16": "<i2", "I64": "<i8"}
_MAX_DIGITS = 16
_MOST_ENTRIES = 1 << 63
"""Where readers in other languages begin to overflow, also on the way to a product of 0."""
_ALIGNMENT = 8
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a reader takes: bytes of header, keys of metadata, dimensions, bytes by type."""

    header_bytes: int
    metadata_keys: int
    dimensions: int
    sizes: Mapping[str, int]


STRICT = Limits(MAX_HEADER, 64, 4, _READ_SIZES)
WIDE = Limits(
    8 * MAX_HEADER,
    4096,
    8,
    {**_READ_SIZES, "F64": 8, "I32": 4, "U64": 8, "U32": 4, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    | {"F8_E4M3": 1, "F8_E5M2": 1},
)
"""For saying what a stranger's file is, never for using it."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: ``offset`` counts from the first data byte, ``size`` is in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header; ``tensors`` in data order, ``data_start`` counts from the file's start."""

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str]
    data_start: int


def layout_of(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]],
    *,
    keep_order: bool = False,
    sizes: Mapping[str, int] = SIZES,
) -> tuple[TensorInfo, ...]:
    """Place (name, dtype, shape) tensors one after the other, by name or as given.

    ``sizes``: bytes of an entry by type, for copies of files that hold types we do not write.
    """
    given = list(tensors)
    placed: list[TensorInfo] = []
    offset = 0
    for name, dtype, shape in given if keep_order else sorted(given):
        size = sizes[dtype] * math.prod(shape)
        placed.append(TensorInfo(name, dtype, shape, offset, size))
        offset += size
    if len({info.name for info in placed}) != len(placed):
        raise _bad("two tensors of one name", "a name stands for one tensor")
    return tuple(placed)


def header_bytes(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]],
    metadata: Mapping[str, str],
    *,
    keep_order: bool = False,
    sizes: Mapping[str, int] = SIZES,
) -> bytes:
    """Return everything before the data: the length, the JSON, the padding.

    Tensors are sorted by name; ``keep_order`` keeps them as given, for files that follow a base
    model's order (formats.md 5.6). No metadata, no `__metadata__` key.
    """
    body: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    for info in layout_of(tensors, keep_order=keep_order, sizes=sizes):
        body[info.name] = {
            "data_offsets": [info.offset, info.offset + info.size],
            "dtype": info.dtype,
            "shape": list(info.shape),
        }
    text = json.dumps(body if keep_order else dict(sorted(body.items())), separators=(",", ":"))
    padding = " " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text) + len(padding)) + (text + padding).encode("ascii")


def header_length(first8: bytes, *, file_size: int, limits: Limits = STRICT) -> int:
    """Return the JSON's length in bytes, from the file's first eight.

    Raises InputError: too short a file, or a length beyond the limit or the file's end.
    """
    if len(first8) != _LENGTH_BYTES or file_size < _LENGTH_BYTES:
        raise _bad(f"a tensor file of {file_size} bytes", "its first 8 bytes are a length")
    length = int(struct.unpack("<Q", first8)[0])
    if not 2 <= length <= min(limits.header_bytes, file_size - _LENGTH_BYTES):  # noqa: PLR2004  # {}
        raise _bad(
            f"a header of {length} bytes in a file of {file_size}",
            f"it has 2 to {limits.header_bytes} bytes and ends before the file",
        )
    return length


def parse_header(
    prefix: bytes, *, file_size: int, ours: bool = False, limits: Limits = STRICT
) -> Header:
    """Return the checked header of a file that starts with ``prefix`` (length and JSON, or more).

    ``ours``: the bytes must also be those that `header_bytes` writes.

    Raises InputError: anything that a strict reader does not take.
    """
    length = header_length(prefix[:_LENGTH_BYTES], file_size=file_size, limits=limits)
    text = prefix[_LENGTH_BYTES : _LENGTH_BYTES + length]
    if len(text) != length or text[:1] != b"{":
        raise _bad("a header that is cut short or no JSON object", "it starts with a brace")
    body = _json_object(text)
    metadata = _metadata(body.pop("__metadata__", {}), limits)
    tensors = tuple(
        sorted(
            (_tensor(name, entry, limits) for name, entry in body.items()), key=lambda t: t.offset
        )
    )
    _check_extents(tensors, file_size - _LENGTH_BYTES - length)
    header = Header(tensors, metadata, _LENGTH_BYTES + length)
    if ours:
        _check_ours(header, prefix[: header.data_start])
    return header


def read_tensor(info: TensorInfo, raw: bytes | memoryview) -> Shaped[np.ndarray, "..."]:
    """Return the tensor's values from its bytes; BF16 comes as uint16, as numpy has no such type.

    Raises InputError: another number of bytes, or a value that is not finite.
    """
    if len(raw) != info.size:
        raise _bad(f"{len(raw)} bytes of {info.name}", f"it has {info.size}")
    array = np.frombuffer(raw, dtype=_NUMPY[info.dtype]).reshape(info.shape)
    if not all_finite(array, info.dtype):
        raise _bad(f"{info.name} holds a value that is not finite", "weights are finite numbers")
    return array


def _json_object(text: bytes) -> dict[str, object]:
    """Parse without leniency: no key twice, no fraction, no long integer, no deep nesting."""
    try:
        value = cast(
            "object",
            json.loads(
                text.decode("utf-8"),
                object_pairs_hook=_no_key_twice,
                parse_int=_short_integer,
                parse_float=_no_number,
                parse_constant=_no_number,
            ),
        )
    except (ValueError, RecursionError) as error:
        raise _bad("a header that is no JSON", "a strict reader takes plain JSON only") from error
    return cast("dict[str, object]", value)  # the first byte was a brace


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise _bad("a header with a key twice", "readers would disagree on which one counts")
    texts = (text for pair in pairs for text in pair if isinstance(text, str))
    if any(map(_has_surrogate, texts)):
        raise _bad("half a character in a text of the header", "it has no bytes in UTF-8")
    return body


def _has_surrogate(text: str) -> bool:
    """Return whether one of the two escapes of a character stands there without its other half."""
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def _short_integer(digits: str) -> int:
    if digits.startswith("-"):  # -0 too, which other readers take for a fraction
        raise _bad("a negative number in the header", "shapes and offsets are 0 or more")
    if len(digits) > _MAX_DIGITS:
        raise _bad(f"an integer of {len(digits)} digits", f"it has at most {_MAX_DIGITS}")
    return int(digits)


def _no_number(_text: str) -> NoReturn:
    raise _bad("a header with a fraction", "shapes and offsets are integers")


def _metadata(value: object, limits: Limits) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _bad("metadata that is no object", "it maps text to text")
    pairs = cast("dict[str, object]", value)
    if len(pairs) > limits.metadata_keys or not all(isinstance(t, str) for t in pairs.values()):
        raise _bad(
            f"metadata of {len(pairs)} keys", f"it maps at most {limits.metadata_keys} to text"
        )
    return {key: str(text) for key, text in pairs.items()}


def _tensor(name: str, entry: object, limits: Limits) -> TensorInfo:
    """Check one entry by itself."""
    if not isinstance(entry, dict):
        raise _bad(f"tensor {name[:80]!r} is no object", "it has dtype, shape and data_offsets")
    fields = cast("dict[str, object]", entry)
    if set(fields) != {"dtype", "shape", "data_offsets"}:
        raise _bad(f"tensor {name[:80]!r}", "it has exactly dtype, shape and data_offsets")
    dtype = fields["dtype"]
    if not isinstance(dtype, str) or dtype not in limits.sizes:
        read = ", ".join(limits.sizes)
        raise _bad(f"type {str(dtype)[:20]!r} of {name[:80]!r}", f"{read} are read")
    shape = _counts(fields["shape"])
    offsets = _counts(fields["data_offsets"])
    if shape is None or len(shape) > limits.dimensions:
        raise _bad(f"shape of {name[:80]!r}", f"it has at most {limits.dimensions} counts")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004  # a pair
        raise _bad(f"offsets of {name[:80]!r}", "they are a start and an end")
    if math.prod(max(count, 1) for count in shape) >= _MOST_ENTRIES:
        raise _bad(f"shape of {name[:80]!r}", "its counts multiply to less than 2^63, zeros apart")
    size = limits.sizes[dtype] * math.prod(shape)
    if offsets[1] - offsets[0] != size:
        raise _bad(f"{offsets[1] - offsets[0]} bytes of {name[:80]!r}", f"its shape takes {size}")
    return TensorInfo(name, dtype, shape, offsets[0], size)


def _counts(value: object) -> tuple[int, ...] | None:
    """Return a list of integers of 0 or more, None for anything else (a bool is no integer)."""
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    counts = tuple(item for item in items if type(item) is int and item >= 0)
    return counts if len(counts) == len(items) else None


def _check_extents(tensors: tuple[TensorInfo, ...], data_bytes: int) -> None:
    """Refuse gaps, overlaps and tails. Empty tensors may share an offset."""
    end = 0
    for info in sorted(tensors, key=lambda t: (t.offset, t.size)):
        if info.offset != end:
            raise _bad(f"tensor {info.name[:80]!r} at byte {info.offset}", f"{end} comes next")
        end += info.size
    if end != data_bytes:
        raise _bad(f"tensors of {end} bytes", f"the file holds {data_bytes}")


def _check_ours(header: Header, data: bytes) -> None:
    """Compare with what our writer makes of the same content, by name or in data order."""
    entries = [(info.name, info.dtype, info.shape) for info in header.tensors]
    if any(dtype not in SIZES for _, dtype, _ in entries):
        raise _bad("a type that we do not write", f"our files hold {', '.join(SIZES)}")
    if data not in (
        header_bytes(entries, header.metadata),
        header_bytes(entries, header.metadata, keep_order=True),
    ):
        raise _bad("a header that our writer does not make", "equal content has equal bytes")


def _bad(what: str, why: str) -> InputError:
    return InputError(
        what,
        why=why,
        fix="get the file again from its source; it is damaged or no plain safetensors file",
        code="bad-tensor-file",
    )
