"""Text from a file that a stranger wrote, made safe for a terminal and short.

Law: what comes out is printable, moves no cursor, changes no colour and no direction of writing
(T8): control and format characters, marks that join the letter before, and letters that run from
right to left are written as escapes, and so is the backslash, so no text looks like another's.
"""

import unicodedata
from typing import Final

_TURNED: Final = frozenset({"R", "AL", "AN"})
_MOST: Final = 80


def shown(text: str, most: int = _MOST) -> str:
    r"""Return ``text`` escaped and cut to about ``most`` characters.

    >>> shown("anna\x1b[2J"), shown("x" * 9, 4)
    ('anna\\x1b[2J', 'xxxx...')
    """
    kept = "".join(_safe(character) for character in text[:most])
    return kept if len(text) <= most and len(kept) <= most else f"{kept[:most]}..."


def printed(text: str) -> str:
    r"""Return ``text`` with each character that does not print as an escape, line ends apart.

    For sentences of ours that hold a stranger's word: nothing is cut, what `shown` made stays.

    >>> printed("a: anna\x1b[2J\nb\u202e")
    'a: anna\\x1b[2J\nb\\u202e'
    """
    return "".join(c if c == "\n" or c.isprintable() else _escape(c) for c in text)


def _safe(character: str) -> str:
    if character == "\\":
        return "\\\\"
    strange = not character.isprintable() or unicodedata.combining(character)
    if strange or unicodedata.bidirectional(character) in _TURNED:
        return _escape(character)
    return character


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
