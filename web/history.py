"""An hour of the meter: what came, what went, what was refused, a point every ten seconds.

Laws: a ring of ``_POINTS`` and no more; a point is the growth since the one before, so a restart,
after which counters begin at zero, is a gap and never a negative number. Not here: a longer memory,
which a Prometheus has (docs/monitoring.md).
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..coordinator.meter import OK, Meter, Totals

EVERY_S: Final = 10.0
_POINTS: Final = 360


@dataclass(frozen=True, slots=True)
class Point:
    """What one span of ``EVERY_S`` brought; ``t`` is its end in Unix seconds."""

    t: int
    received_bytes: int
    sent_bytes: int
    answered: int
    refused: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """The last hour, and what was refused since the start, by method and code."""

    points: tuple[Point, ...]
    received_bytes: int
    sent_bytes: int
    answered: int
    refusals: tuple[tuple[str, str, int], ...]


def point(before: Totals, after: Totals, t: int) -> Point:
    """Return what grew between two looks."""
    old, new = _split(before), _split(after)
    return Point(
        t=t,
        received_bytes=max(0, after.received_bytes - before.received_bytes),
        sent_bytes=max(0, after.sent_bytes - before.sent_bytes),
        answered=max(0, new[OK] - old[OK]),
        refused=max(0, (new.total() - new[OK]) - (old.total() - old[OK])),
    )


def traffic(points: tuple[Point, ...], now: Totals) -> Traffic:
    """Return the page's numbers."""
    refusals = sorted(
        (-number, method, code)
        for (method, code), number in now.ended.items()
        if number and code != OK
    )
    return Traffic(
        points=points,
        received_bytes=now.received_bytes,
        sent_bytes=now.sent_bytes,
        answered=_split(now)[OK],
        refusals=tuple((method, code, -number) for number, method, code in refusals),
    )


def _split(totals: Totals) -> Counter[str]:
    found = Counter[str]()
    for (_, code), number in totals.ended.items():
        found[code] += number
    return found


class History:
    """Looks at a meter from a thread of its own until it is closed."""

    def __init__(
        self, meter: Meter, wall_s: Callable[[], int], *, every_s: float = EVERY_S
    ) -> None:
        """Begin to look."""
        self._meter = meter
        self._wall_s = wall_s
        self._every_s = every_s
        self._points: deque[Point] = deque(maxlen=_POINTS)
        self._before = meter.totals()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def read(self) -> Traffic:
        """Return what was seen."""
        return traffic(tuple(self._points), self._meter.totals())

    def mark(self) -> int:
        """Return what differs when there is another point: its time, 0 while there is none."""
        return self._points[-1].t if self._points else 0

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            now = self._meter.totals()
            self._points.append(point(self._before, now, self._wall_s()))
            self._before = now
