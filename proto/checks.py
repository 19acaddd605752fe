"""What every reader of a message does first: size, structure, and the bound of each single field.

Law: bytes in, message out, or InputError("malformed"); the size before the structure (T5, T8). A
bound is that of proto/v1; what a field *means* is for its reader to check.
"""

from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from ..core.errors import InputError

RECEIPT: Final = 32 << 10
KEYRING: Final = 8 << 10
KEYRINGS: Final = 64
WRAPS: Final = 64 * 80
TEXT: Final = 1_024
FENCE: Final = (1 << 53) - 1
"""Fences stand in signed JSON, whose integers end here."""

_M = TypeVar("_M", bound=Message)


def malformed(what: str) -> InputError:
    """Return the error for bytes or values that break the contract."""
    return InputError(
        what,
        why="the wire contract does not allow it",
        fix="use an orthofed of the same version on both sides",
        code="malformed",
    )


def parse(message: _M, data: bytes, limit: int) -> _M:
    """Return ``message`` with what ``data`` says, of at most ``limit`` bytes."""
    # T5: size before structure.
    if len(data) > limit:
        raise malformed(f"a message of {len(data)} bytes, allowed are {limit}")
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise malformed("a message that cannot be parsed") from error
    return message


def data_of(name: str, value: bytes, low: int, high: int) -> bytes:
    """Return ``value`` if it has ``low`` to ``high`` bytes; ``name`` is what the error calls it."""
    if not low <= len(value) <= high:
        raise malformed(f"{name} of {len(value)} bytes, allowed are {low} to {high}")
    return value


def number(name: str, value: int, low: int, high: int) -> int:
    """Return ``value`` if it is ``low`` to ``high``."""
    if not low <= value <= high:
        raise malformed(f"{name} {value}, allowed are {low} to {high}")
    return value


def text(name: str, value: str, high: int) -> str:
    """Return ``value`` if it has at most ``high`` characters, all printable or a line's end."""
    if len(value) > high:
        raise malformed(f"{name} of {len(value)} characters, allowed are {high}")
    if bad := strange(value):
        raise malformed(f"{name} with the character U+{ord(bad):04X}, allowed are printable ones")
    return value


def strange(value: str) -> str:
    """Return the first character that no text of the wire may have, empty where there is none.

    T8: C1 controls steer a terminal as escapes do, and bidirectional marks reverse what is read.
    """
    return next((c for c in value if c != "\n" and not c.isprintable()), "")


def cleaned(value: str, high: int = TEXT) -> str:
    """Return ``value`` as `text` takes it: cut, and a space for each strange character.

    For what was stored before it was checked: one bad row must not hide a lease from its owner.
    """
    return "".join(" " if strange(c) else c for c in value[:high])


def check_few(name: str, num: int, low: int, high: int) -> None:
    """Pass if there are ``low`` to ``high`` of them."""
    if not low <= num <= high:
        raise malformed(f"{num} {name}, allowed are {low} to {high}")


def keyrings(values: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the documents of keyrings, if they are few and small enough."""
    check_few("keyrings", len(values), 1, KEYRINGS)
    return tuple(data_of("a keyring", value, 1, KEYRING) for value in values)


def slot_and_fence(slot: int, fence: int) -> tuple[int, int]:
    """Return both, if the fence is one."""
    return slot, number("fence", fence, 1, FENCE)
