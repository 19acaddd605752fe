"""The fields of a protobuf message as they lie in its bytes, without its schema.

Law: every byte belongs to a field that is named by its number, so what this walk does not show does
not leave. Only what our contract uses is read: varints and length-delimited values. Cost: one step
a field, whatever its length. Source: protobuf encoding, "Message structure".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

_VARINT: Final = 0
_LENGTH: Final = 2
_VARINT_BYTES: Final = 10


@dataclass(frozen=True, slots=True)
class RawField:
    """One value: the field's number, how it is written, and its bytes or its number."""

    number: int
    kind: Literal["number", "bytes"]
    value: bytes | int

    @property
    def size(self) -> int:
        """Bytes of a value, or the number of bytes that a number needs."""
        if isinstance(self.value, bytes):
            return len(self.value)
        return max(1, -(-self.value.bit_length() // 8))


def raw_fields(body: bytes) -> Iterator[RawField]:
    """Yield every value in order. Raises ValueError: the bytes are no message of this kind."""
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, at = _varint(body, at)
            yield RawField(number, "number", value)
        elif wire_type == _LENGTH:
            length, at = _varint(body, at)
            if length > len(body) - at:
                raise ValueError("a value that is longer than its message")
            yield RawField(number, "bytes", body[at : at + length])
            at += length
        else:
            raise ValueError(f"a value of wire type {wire_type}")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_VARINT_BYTES):
        if at + place >= len(body):
            break
        byte = body[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004  # the top bit says that more follows
            return value, at + place + 1
    raise ValueError("a number without an end")
