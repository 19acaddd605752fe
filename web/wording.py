"""How a page says sizes, times and what strangers wrote.

Law: text that a person typed is cut and loses every character that shows nothing or turns the
direction of writing (T23); escaping it for HTML is the template's, for every value. Times are UTC.
"""

import datetime as dt
from typing import Final

_MOST: Final = 160
_UNITS: Final = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400


def legible(text: str, most: int = _MOST) -> str:
    r"""Return ``text`` on one line, of at most ``most`` characters, with nothing invisible in it.

    >>> ascii(legible("anna\u202ek7\n")), ascii(legible("x" * 9, 4))
    ("'anna\\ufffdk7\\ufffd'", "'xxxx\\u2026'")
    """
    kept = "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:most]
    )
    return kept if len(text) <= most else f"{kept}\N{HORIZONTAL ELLIPSIS}"


def size_text(num_bytes: int) -> str:
    """Return a size in decimal units.

    >>> size_text(138_314), size_text(12)
    ('138.3 kB', '12 bytes')
    """
    for unit, factor in _UNITS:
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes} bytes"


def day_text(t: int) -> str:
    """Return the day of Unix seconds.

    >>> day_text(1_790_000_000)
    '2026-09-21'
    """
    return _utc(t).strftime("%Y-%m-%d")


def time_text(t: int) -> str:
    """Return Unix seconds to the minute.

    >>> time_text(1_790_000_000)
    '2026-09-21 14:13 UTC'
    """
    return _utc(t).strftime("%Y-%m-%d %H:%M UTC")


def iso_text(t: int) -> str:
    """Return Unix seconds as a ``time`` element's attribute has them.

    >>> iso_text(1_790_000_000)
    '2026-09-21T14:13:20Z'
    """
    return _utc(t).strftime("%Y-%m-%dT%H:%M:%SZ")


def span_text(seconds: float) -> str:
    """Return a length of time in its largest fitting unit.

    >>> [span_text(s) for s in (5, 130, 7_300, 200_000)]
    ['5 s', '2 min', '2 h', '2 days']
    """
    if seconds < 2 * _MINUTE_S:
        return f"{max(0, int(seconds))} s"
    if seconds < 2 * _HOUR_S:
        return f"{int(seconds // _MINUTE_S)} min"
    if seconds < 2 * _DAY_S:
        return f"{int(seconds // _HOUR_S)} h"
    return f"{int(seconds // _DAY_S)} days"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun.

    >>> counted(1, "concept"), counted(3, "copy", "copies")
    ('1 concept', '3 copies')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def _utc(t: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(min(max(t, 0), 253_402_300_799), dt.UTC)
