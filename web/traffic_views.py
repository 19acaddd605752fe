"""Transfer and errors of the last hour, from the meter's points alone."""

from dataclasses import dataclass

from .charts import Lines, lines
from .history import EVERY_S, Traffic
from .public_views import Figure
from .wording import size_text, span_text

_MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """One kind of refusal since the start."""

    method: str
    code: str
    number: str


@dataclass(frozen=True, slots=True)
class TrafficView:
    """The page of charts; they are None until two points are there."""

    figures: tuple[Figure, ...]
    transfer: Lines | None
    calls: Lines | None
    span: str
    refusals: tuple[RefusalRow, ...]


def traffic(found: Traffic) -> TrafficView:
    """Return the page."""
    points = found.points
    figures = (
        Figure("received", size_text(found.received_bytes), "since the start"),
        Figure("sent", size_text(found.sent_bytes), "since the start"),
        Figure("calls answered", f"{found.answered:,}"),
        Figure("calls refused", f"{sum(number for _, _, number in found.refusals):,}"),
    )
    span = span_text(len(points) * EVERY_S)
    ends = (f"{span} ago", "now")
    transfer = calls = None
    if len(points) > 1:
        received = [each.received_bytes / EVERY_S for each in points]
        sent = [each.sent_bytes / EVERY_S for each in points]
        answered = [each.answered * _MINUTE_S / EVERY_S for each in points]
        refused = [each.refused * _MINUTE_S / EVERY_S for each in points]
        top = f"{size_text(int(max([*received, *sent])))} a second"
        transfer = lines("Transfer", received, sent, names=("received", "sent"), top=top, ends=ends)
        calls = lines(
            "Calls",
            answered,
            refused,
            names=("answered", "refused"),
            top=f"{max([*answered, *refused]):,.0f} a minute",
            ends=ends,
        )
    return TrafficView(
        figures=figures,
        transfer=transfer,
        calls=calls,
        span=span,
        refusals=tuple(RefusalRow(m, c, f"{n:,}") for m, c, n in found.refusals),
    )
