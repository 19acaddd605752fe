"""Canonical JSON (CJ): one value, one spelling, so that a hash or a signature speaks of the value.

Values: object, array, string, integer, true, false. Strings and keys hold 0x20 to 0x7E except the
quotation mark and the backslash, so no escape exists. Integers lie within +-(2^53 - 1). Keys are
sorted by byte, none twice; no white space, no null, no fraction; depth at most 8.
Law: ``encode(decode(data)) == data``, else the data is refused; bytes are lower-case hex, other
text is base64url, unpadded, of NFC UTF-8.
Source: security.md 4.1. Cost: linear. Not here: which fields a body must have (core/fields.py).
"""

import base64
import binascii
import json
import re
import unicodedata
from typing import NoReturn, cast

from .errors import VerificationFailed

_TEXT = re.compile(r"[ !#-\[\]-~]*")
_LARGEST = (1 << 53) - 1
_DEPTH = 8


def encode(value: object) -> bytes:
    """Return the one spelling of ``value``: nested dict, list, str, int and bool.

    >>> encode({"v": 1, "a": [True, "x"]})
    b'{"a":[true,"x"],"v":1}'

    Raises VerificationFailed ``not-canonical``: a value that CJ cannot express.
    """
    _check(value, _DEPTH)
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> object:
    """Return the value that ``data`` spells; any other spelling of it is refused.

    Raises VerificationFailed ``not-canonical``.
    """
    text = data.decode("latin-1")
    if "\\" in text:  # CJ has no escape, and one would hide brackets from the count
        raise _refused("JSON with an escape")
    _check_depth(text)
    try:
        value = cast(
            "object",
            json.loads(text, parse_float=_no_number, parse_constant=_no_number),
        )
    except ValueError as error:
        raise _refused("bytes that are no JSON") from error
    if encode(value) != data:
        raise _refused("JSON in another spelling than the canonical one")
    return value


def encode_base64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: str) -> bytes:
    """Return the bytes; a second spelling of the same bytes is refused.

    Raises VerificationFailed ``not-canonical``.
    """
    try:
        data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _refused("text that is no base64url") from error
    # The library skips foreign characters and ignores spare bits: only re-encoding is strict.
    if encode_base64(data) != text:
        raise _refused("base64url in another spelling than the canonical one")
    return data


def encode_text(text: str) -> str:
    """Return any Unicode text as CJ may hold it: base64url of NFC UTF-8."""
    return encode_base64(unicodedata.normalize("NFC", text).encode("utf-8"))


def decode_text(encoded: str) -> str:
    """Return the text of ``encode_text``. Raises VerificationFailed ``not-canonical``."""
    try:
        text = decode_base64(encoded).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused("base64url that holds no UTF-8") from error
    if not unicodedata.is_normalized("NFC", text):
        raise _refused("text that is not in normal form C")
    return text


def _check(value: object, depth: int) -> None:
    """Refuse what CJ cannot express; ``depth`` containers may still be nested."""
    if isinstance(value, dict | list):
        if depth == 0:
            raise _refused(f"more than {_DEPTH} levels")
        keys = cast("dict[object, object]", value) if isinstance(value, dict) else {}
        if not all(isinstance(key, str) for key in keys):
            raise _refused("a key that is no text")
        inner = [*keys, *keys.values()] if keys else cast("list[object]", [*value])
        for each in inner:
            _check(each, depth - 1)
    elif isinstance(value, str):
        if not _TEXT.fullmatch(value):
            raise _refused("text with a character that canonical JSON does not hold")
    elif type(value) is int:  # a bool is no integer, though Python says so
        if abs(value) > _LARGEST:
            raise _refused("an integer beyond 2^53 - 1")
    elif type(value) is not bool:
        raise _refused(f"a value of type {type(value).__name__}")


def _check_depth(text: str) -> None:
    """T5: count the levels before a recursive parser sees them."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"[^"]*"', "", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > _DEPTH:
            raise _refused(f"more than {_DEPTH} levels")


def _no_number(_text: str) -> NoReturn:
    raise _refused("a number that is no integer")


def _refused(what: str) -> VerificationFailed:
    return VerificationFailed(
        what,
        why="signed data has exactly one spelling",
        fix="get the data again from its source; do not edit it",
        code="not-canonical",
    )
