"""Charts as the numbers of an inline SVG: no script, no style, no picture of another host.

Law: every coordinate is a finite number inside the chart whatever the values are; a chart has its
numbers in words or in a table beside it, so nobody needs to see it. Units: the SVG's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 180
_LEFT: Final = 8
_TOP: Final = 18
_BOTTOM: Final = 20
_FAR: Final = 10


@dataclass(frozen=True, slots=True)
class Lines:
    """One or two lines over one time; ``top`` says what the highest grid line means."""

    title: str
    top: str
    one: str
    one_name: str
    two: str
    two_name: str
    first: str
    last: str
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: from ``x``, ``width`` wide, at ``y``; ``over``: beyond what is allowed."""

    label: str
    value: str
    x: float
    y: float
    width: float
    height: float
    over: bool


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars with the bounds of what is allowed as lines."""

    title: str
    bars: tuple[Bar, ...]
    limits: tuple[float, ...]
    zero: float
    width: int
    height: int


def polyline(values: Sequence[float], most: float) -> str:
    """Return the points of a line over the chart's whole width.

    >>> polyline([0, 5], 5)
    '8.0,160.0 632.0,18.0'
    """
    top = most if most > 0 else 1.0
    step = (WIDTH - 2 * _LEFT) / max(1, len(values) - 1)
    high = HEIGHT - _TOP - _BOTTOM
    return " ".join(
        f"{_LEFT + i * step:.1f},{HEIGHT - _BOTTOM - high * min(max(v, 0.0), top) / top:.1f}"
        for i, v in enumerate(values)
    )


def lines(  # a chart has this many words
    title: str,
    one: Sequence[float],
    two: Sequence[float],
    *,
    names: tuple[str, str],
    top: str,
    ends: tuple[str, str],
) -> Lines:
    """Return a chart of two lines on one scale."""
    most = max([*one, *two], default=0.0)
    return Lines(
        title=title,
        top=top,
        one=polyline(one, most),
        one_name=names[0],
        two=polyline(two, most),
        two_name=names[1],
        first=ends[0],
        last=ends[1],
    )


def diverging(title: str, values: Sequence[tuple[str, float]], *, low: float, high: float) -> Bars:
    """Return bars to both sides of zero; those beyond ``low`` or ``high`` are ``over``.

    A bound far beyond every value is not drawn, so that the values can be seen.
    """
    largest = max((abs(value) for _, value in values), default=0.0) or 1.0
    drawn = [each for each in (low, high) if abs(each) <= _FAR * largest]
    reach = max(largest, *(abs(each) for each in drawn)) if drawn else largest
    middle, half, row = WIDTH / 2, WIDTH / 2 - 60, 22
    bars = tuple(
        Bar(
            label=label,
            value=f"{value:+.1f} %",
            x=round(middle if value >= 0 else middle + half * value / reach, 1),
            y=float(14 + i * row),
            width=round(max(1.0, half * abs(value) / reach), 1),
            height=14.0,
            over=not low <= value <= high,
        )
        for i, (label, value) in enumerate(values)
    )
    limits = tuple(round(middle + half * each / reach, 1) for each in drawn)
    return Bars(title, bars, limits, middle, WIDTH, 20 + row * len(values))


def columns(title: str, values: Sequence[float], *, limit: float) -> Bars:
    """Return one thin column a value, with a line at the limit."""
    top = max([limit if limit <= _FAR * max([*values, 1.0]) else 0.0, *values, 1.0])
    high = HEIGHT - _TOP
    step = (WIDTH - 2 * _LEFT) / max(1, len(values))
    bars = tuple(
        Bar(
            label="",
            value=f"{value:g} %",
            x=round(_LEFT + i * step, 2),
            y=round(HEIGHT - high * min(max(value, 0.0), top) / top, 2),
            width=round(max(0.5, step * 0.8), 2),
            height=round(max(0.5, high * min(max(value, 0.0), top) / top), 2),
            over=value > limit,
        )
        for i, value in enumerate(values)
    )
    shown = (round(HEIGHT - high * limit / top, 1),) if limit <= top else ()
    return Bars(title, bars, shown, float(HEIGHT), WIDTH, HEIGHT)
