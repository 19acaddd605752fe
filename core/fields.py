"""The fields of one signed body, each read once by its type and bounds.

Law: a body has exactly the fields that its kind names; a missing or an unknown one is refused,
since a new field is a new ``v`` (security.md 4.1). Every getter raises VerificationFailed
``bad-field`` and names the field, never its value (T27).
Hex is lower case and of exact length; integers lie within 0 and 2^53 - 1 unless said otherwise.
"""

import re
from collections.abc import Iterable
from typing import cast

from .errors import VerificationFailed

_HEX = re.compile(r"[0-9a-f]*")
_LARGEST = (1 << 53) - 1
NO_ID = "0" * 64
"""Where an id would stand and there is none: 64 zeros."""


class Fields:
    """A checked view of one JSON object."""

    __slots__ = ("_of", "_values")

    def __init__(
        self, value: object, of: str, *, need: Iterable[str], may: Iterable[str] = ()
    ) -> None:
        """Check that ``value`` is an object with all of ``need`` and nothing beyond ``may``.

        ``of`` names the object in error texts: "a keyring".
        """
        self._of = of
        if not isinstance(value, dict):
            raise bad_field(f"{of} is no object")
        self._values = cast("dict[str, object]", value)
        wanted = set(need)
        missing = wanted - self._values.keys()
        unknown = self._values.keys() - wanted - set(may)
        if missing or unknown:
            raise bad_field(f"{of} has {len(missing)} missing and {len(unknown)} unknown fields")

    def __contains__(self, name: str) -> bool:
        """Return whether an optional field is there."""
        return name in self._values

    def raw(self, name: str) -> object:
        """Return the value as it is, for a reader of its own."""
        return self._values[name]

    def integer(self, name: str, low: int = 0, high: int = _LARGEST) -> int:
        """Return an integer from ``low`` to ``high``."""
        value = self._values[name]
        if type(value) is not int or not low <= value <= high:
            raise self._bad(name, f"an integer from {low} to {high}")
        return value

    def version(self, wanted: int = 1) -> None:
        """Check ``v``."""
        self.integer("v", wanted, wanted)

    def hex(self, name: str, digits: int = 64) -> str:
        """Return ``digits`` lower-case hex digits."""
        value = self._values[name]
        if not is_hex(value, digits):
            raise self._bad(name, f"{digits} lower-case hex digits")
        return cast("str", value)

    def text(self, name: str, *, most: int = 255) -> str:
        """Return text of at most ``most`` characters, not empty."""
        value = self._values[name]
        if not isinstance(value, str) or not 1 <= len(value) <= most:
            raise self._bad(name, f"text of 1 to {most} characters")
        return value

    def one_of(self, name: str, choices: Iterable[str]) -> str:
        """Return one of a few words."""
        value = self._values[name]
        allowed = tuple(choices)
        if not isinstance(value, str) or value not in allowed:
            raise self._bad(name, " or ".join(allowed))
        return value

    def items(self, name: str, *, most: int, least: int = 0) -> list[object]:
        """Return an array of ``least`` to ``most`` values, unchecked themselves."""
        value = self._values[name]
        if not isinstance(value, list):
            raise self._bad(name, "an array")
        items = cast("list[object]", value)
        if not least <= len(items) <= most:
            raise self._bad(name, f"an array of {least} to {most} values")
        return items

    def _bad(self, name: str, wanted: str) -> VerificationFailed:
        return bad_field(f"`{name}` of {self._of} is not {wanted}")


def is_hex(value: object, digits: int = 64) -> bool:
    """Return whether ``value`` is exactly ``digits`` lower-case hex digits."""
    return isinstance(value, str) and len(value) == digits and bool(_HEX.fullmatch(value))


def bad_field(what: str) -> VerificationFailed:
    """Return the error for a body that does not have the shape of its kind."""
    return VerificationFailed(
        what,
        why="signed bodies have exactly the fields of their kind, each within its bounds",
        fix="use an orthofed of the same version on both sides",
        code="bad-field",
    )
