"""One setting of a TOML file as a field of a frozen dataclass: its default, its bounds, its words.

`number`, `choice`, `switch`, `word`, `texts` and `path` make fields; `broken` says whether a value
keeps to its field, and with what bounds where it does not; `exact` takes TOML's types as ours. Law:
each value that a person can set has a type and bounds, and they are printed from the same field
that is checked. Used by training_settings.py and daemon_settings.py, which say why and what to do.
"""

import re
from collections.abc import Mapping
from dataclasses import Field, field
from typing import Any, Final, get_args

_MOST_TEXTS: Final = 16
_LONGEST_PATH: Final = 4_096
_EXACT_FLOAT: Final = 1 << 53
_LONGEST_QUOTE: Final = 200
_LONGEST_TEXT: Final = 400  # characters; a text encoder reads some 77 tokens


def number(default: float, low: float, high: float, says: str) -> Any:  # noqa: ANN401  # a field
    """Return the field of a number; whole ones have a whole ``default``."""
    return field(default=default, metadata={"low": low, "high": high, "says": says})


def choice(default: object, kind: object, says: str) -> Any:  # noqa: ANN401  # a field
    """Return the field of one of the words of a Literal ``kind``."""
    return field(default=default, metadata={"choices": get_args(kind), "says": says})


def switch(default: bool, says: str) -> Any:  # noqa: ANN401, FBT001  # a field of a switch
    """Return the field of true or false."""
    return field(default=default, metadata={"choices": (False, True), "says": says})


def word(default: str, pattern: str, allowed: str, says: str) -> Any:  # noqa: ANN401  # a field
    """Return the field of a text that matches ``pattern``; ``allowed`` says the same in words."""
    return field(default=default, metadata={"pattern": pattern, "allowed": allowed, "says": says})


def texts(default: tuple[str, ...], says: str, *, each: str = "") -> Any:  # noqa: ANN401  # a field
    """Return a field of texts; with ``each`` there is one at least, and all of them have it."""
    return field(default=default, metadata={"texts": _MOST_TEXTS, "each": each, "says": says})


def path(default: str, says: str) -> Any:  # noqa: ANN401  # a field
    """Return the field of a path; empty: none."""
    return field(default=default, metadata={"path": _LONGEST_PATH, "says": says})


def seen(value: object) -> str:
    """Return ``value`` as an error quotes it: short, whatever a file gave."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of thousands of digits
        return "an integer of thousands of digits"
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."


def broken(item: "Field[Any]", value: object) -> str:
    """Return what is allowed in ``item``, where ``value`` is not; empty where it is."""
    return "" if _fits(item, value) else allowed(item)


def allowed(item: "Field[Any]") -> str:
    """Return the bounds of ``item`` in words."""
    default, meta = item.default, item.metadata
    if "choices" in meta:
        return " or ".join(
            str(each).lower() if isinstance(each, bool) else str(each) for each in meta["choices"]
        )
    if "pattern" in meta:
        return meta["allowed"]
    if "texts" in meta:
        some = f"{meta['texts']} texts of 1 to {_LONGEST_TEXT} characters"
        return f"1 to {some}, {meta['each']} in each" if meta["each"] else f"at most {some}"
    if "path" in meta:
        return f"a path of at most {meta['path']} characters"
    return f"{type(default).__name__} from {meta['low']:g} to {meta['high']:g}"


def exact(value: Any, kind: type) -> Any:  # noqa: ANN401  # of any setting
    """Return TOML's value as the setting's own type: 1 may stand for 1.0, a list is a tuple."""
    if kind is float and type(value) is int:
        return float(value) if abs(value) <= _EXACT_FLOAT else value  # never within bounds
    return tuple(value) if kind is tuple and type(value) is list else value


def _fits(item: "Field[Any]", value: Any) -> bool:  # noqa: ANN401  # of any setting
    meta = item.metadata
    if "choices" in meta:
        return value in meta["choices"] and type(value) is type(item.default)
    if "pattern" in meta:
        return isinstance(value, str) and re.fullmatch(meta["pattern"], value) is not None
    if "texts" in meta:
        return _are_texts(value, meta)
    if "path" in meta:
        return isinstance(value, str) and len(value) <= meta["path"]
    is_number = isinstance(value, type(item.default)) and not isinstance(value, bool)
    return is_number and meta["low"] <= value <= meta["high"]  # NaN is not; 400 digits are no float


def _are_texts(value: object, meta: Mapping[str, Any]) -> bool:
    each = meta["each"]
    return (
        isinstance(value, tuple)
        and bool(each) <= len(value) <= meta["texts"]
        and all(isinstance(text, str) and 0 < len(text) <= _LONGEST_TEXT for text in value)
        and all(each in text for text in value)
    )
