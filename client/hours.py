"""When a daemon may work: windows of local time, on some days of the week, also over midnight.

    "22:00-06:00"   "mon-fri 18:30-08:00"   "sat,sun 00:00-24:00"

A window belongs to the day on which it opens: ``fri 22:00-06:00`` ends on Saturday morning. Laws:
no window at all means any time; a window is half open, so 06:00 is outside of the one above; what
the clocks do in spring and autumn moves an end by at most that hour, since wall time is compared.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 24 * 60
_SHAPE: Final = re.compile(
    r"(?:(?P<days>[a-z,-]+) +)?(?P<h0>\d\d):(?P<m0>\d\d)-(?P<h1>\d\d):(?P<m1>\d\d)"
)
ALLOWED: Final = '"22:00-06:00", "mon-fri 18:30-08:00" or "sat,sun 00:00-24:00"'


@dataclass(frozen=True, slots=True)
class Window:
    """One window: the days on which it opens (0 = Monday), and minutes from their midnight."""

    days: frozenset[int]
    opens: int
    closes: int  # beyond 1,440 where it ends on the next day

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the window that ``text`` says. Raises ValueError: it says none."""
        found = _SHAPE.fullmatch(text.strip().lower())
        if found is None:
            raise ValueError(text)
        opens, closes = (_minutes(found[h], found[m]) for h, m in (("h0", "m0"), ("h1", "m1")))
        if opens in (_DAY_MINUTES, closes):
            raise ValueError(text)
        return cls(_days(found["days"]), opens, closes + _DAY_MINUTES * (closes < opens))

    def holds(self, at: datetime) -> bool:
        """Return whether ``at``, local time, lies inside."""
        minute = at.hour * 60 + at.minute
        today, before = at.weekday(), (at.weekday() - 1) % 7
        return (today in self.days and self.opens <= minute < self.closes) or (
            before in self.days and minute + _DAY_MINUTES < self.closes
        )


def is_open(windows: tuple[Window, ...], at: datetime) -> bool:
    """Return whether one of the windows holds ``at``; without any it is always open."""
    return not windows or any(window.holds(at) for window in windows)


def opens_at(windows: tuple[Window, ...], after: datetime) -> datetime:
    """Return when the next window opens, behind ``after``, which is outside of all of them."""
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = [
        midnight + timedelta(days=ahead, minutes=window.opens)
        for window in windows
        for ahead in range(8)
        if (after.weekday() + ahead) % 7 in window.days
    ]
    return min(start for start in starts if start > after)


def _minutes(hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > _DAY_MINUTES:  # noqa: PLR2004  # minutes of an hour
        raise ValueError(f"{hours}:{minutes}")
    return total


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = _DAYS.index(first), _DAYS.index(last or first)
        found |= {(start + n) % 7 for n in range((end - start) % 7 + 1)}
    return frozenset(found)
