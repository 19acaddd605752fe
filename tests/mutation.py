"""Damages a message: its bytes, its protobuf fields, the signed JSON inside. Pure, by a Random.

Nothing here knows a call of ours. Fields come from the message's descriptor, so a new one is
damaged the day it appears; a document is found by how it starts.
"""

import json
import random
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor

Random = random.Random
Entry = tuple[int, int, bytes]
"""Field number, wire type, the value as it travels: a varint, or bytes without their length."""
Sign = Callable[[str, dict[str, object], list[str]], bytes]
"""Kind, body, public keys of the signers: the signed document's bytes."""

VARINT, FIXED64, LENGTH, START_GROUP, END_GROUP, FIXED32 = range(6)
NUMBERS = (0, 1, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 53) - 1, 1 << 53, 1 << 63, (1 << 64) - 1)
TEXTS = (
    b"",
    b"\0",
    b"\xff\xfe\xc0\x80",
    b"\xed\xa0\x80",
    "\u202e\u0000\u2028\U0001f600".encode() * 20,
    b"../../../../etc/passwd",
    b"%s%n{0.__class__}",
    b'{"body":{},"kind":"join","sigs":[]}',
    b'["\\"",' + b"[" * 3_000,
    b"A" * 70_000,
    b"\0" * 300_000,
)
VALUES: tuple[object, ...] = (
    *(0, -1, 1, 1 << 53, -(1 << 63), True, None, 1.5),
    *("", "x", "A" * 300, "0" * 64, "0" * 32, "f" * 64, "anna-k7", "lora", "../x", "é"),
    *([], {}, [[[[[[[[[]]]]]]]]], ["a"] * 40, {"a": 1}),
)


def bytes_damaged(rng: Random, data: bytes) -> bytes:
    """Flip, drop, add, cut, splice, or any bytes at all."""
    place = rng.randrange(len(data) + 1)
    end = min(len(data), place + rng.choice((1, 2, 8, 64)))
    match rng.randrange(6):
        case 0 if data:
            flipped = bytearray(data)
            for _ in range(rng.choice((1, 1, 3, 20))):
                flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            return bytes(flipped)
        case 1:
            return data[:place] + data[end:]
        case 2:
            return data[:place] + rng.randbytes(rng.choice((1, 4, 200))) + data[place:]
        case 3:
            return data[:place]
        case 4:
            return data[place:] + data[:end]
        case _:
            return rng.randbytes(rng.choice((1, 10, 100, 5_000)))


def fields_damaged(rng: Random, of: Descriptor, data: bytes) -> bytes:
    """Damage one field: missing, repeated, of another length, type, sign or number, or huge."""
    fields = _entries(data)
    if not of.fields:
        return encode([*fields, _unknown(rng)])
    number = rng.choice(of.fields).number
    mine = [entry for entry in fields if entry[0] == number] or [(number, LENGTH, b"")]
    others = [entry for entry in fields if entry[0] != number]
    one = rng.choice(mine)
    match rng.randrange(8):
        case 0:
            changed = []
        case 1:
            changed = mine * rng.choice((2, 3, 100, 3_000))
        case 2:
            changed = [*mine[1:], (number, one[1], _resized(rng, one))]
        case 3:
            tag = varint(number << 3 | LENGTH)
            declared = rng.choice((0, 1, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 64) - 1))
            return encode(others) + tag + varint(declared) + one[2]
        case 4:
            changed = [(number, LENGTH, rng.choice(TEXTS))]
        case 5:
            changed = [(number, VARINT, varint(rng.choice(NUMBERS)))]
        case 6:
            wrong = (b"\xff" * 11, b"\x80" * 9 + b"\x01", b"\x80" * 12, varint((1 << 64) - 1))
            changed = [(number, VARINT, rng.choice(wrong))]
        case _:
            other = rng.choice((FIXED64, START_GROUP, END_GROUP, FIXED32, 6, 7))
            changed = [(number, other, rng.randbytes(rng.choice((0, 4, 8))))]
    return encode([*others, *changed, *([_unknown(rng)] if rng.random() < 0.1 else [])])


def document_damaged(rng: Random, data: bytes, sign: Sign) -> bytes:
    """Change one value of the first signed document in a message, and sign it again."""
    fields = _entries(data)
    for i, (number, kind, payload) in enumerate(fields):
        if kind == LENGTH and payload.startswith(b'{"body":'):
            fields[i] = (number, kind, _changed(rng, json.loads(payload), sign))
            return encode(fields)
    return bytes_damaged(rng, data)


def _changed(rng: Random, said: Any, sign: Sign) -> bytes:
    body = said["body"]
    name = rng.choice([*body, "unknown"])
    match rng.randrange(4):
        case 0:
            body.pop(name, None)
        case 1 if isinstance(body.get(name), str):
            body[name] = body[name][: rng.randrange(len(body[name]) + 1)] + rng.choice("\0aZé\\")
        case 2 if isinstance(body.get(name), list):
            items = [*body[name], *rng.choices(VALUES, k=rng.randrange(2))]
            body[name] = items[: len(items) - 1] + rng.choices(VALUES, k=rng.randrange(2))
        case _:
            body[name] = rng.choice(VALUES)
    keys = [each["key"] for each in said["sigs"]]
    try:
        return sign(said["kind"], body, keys)
    except Exception:  # noqa: BLE001  # what cannot be signed is sent all the same
        return json.dumps(said, separators=(",", ":")).encode()


def example(of: Descriptor) -> bytes:
    """Return a message in which every field has a plain value."""
    return encode(
        [
            (field.number, LENGTH, bytes(16))
            if field.type in (field.TYPE_BYTES, field.TYPE_STRING, field.TYPE_MESSAGE)
            else (field.number, VARINT, b"\x01")
            for field in of.fields
        ]
    )


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def encode(entries: list[Entry]) -> bytes:
    """Return the message of these fields, legal or not."""
    return b"".join(
        varint(number << 3 | kind) + (varint(len(value)) if kind == LENGTH else b"") + value
        for number, kind, value in entries
    )


def _entries(data: bytes) -> list[Entry]:
    """Return the fields of a well-formed message of varints, bytes and messages."""
    found: list[Entry] = []
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        start = place
        value, place = _varint(data, place)
        if tag & 7 == LENGTH:
            found.append((tag >> 3, LENGTH, data[place : place + value]))
            place += value
        else:
            found.append((tag >> 3, VARINT, data[start:place]))
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, place


def _resized(rng: Random, entry: Entry) -> bytes:
    value = entry[2]
    if rng.random() < 0.5:
        return value[: rng.randrange(len(value) + 1)]
    return value + rng.randbytes(rng.choice((1, 16, 1_000)))


def _unknown(rng: Random) -> Entry:
    number = rng.choice((0, 1, 15, 19_000, (1 << 29) - 1))
    return number, rng.choice((VARINT, LENGTH, FIXED64, START_GROUP)), rng.randbytes(8)
