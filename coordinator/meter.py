"""Counts the calls of one server as they end, for ``/metrics``.

Law: labels are the contract's methods and the stable codes of refusals, nothing that a caller
chooses, so a flood makes no new series. An update costs some microseconds and no lock that a slow
scrape holds.
"""

from collections import Counter as Sums
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.samples import Sample

from ..proto.methods import METHODS, Method

OK = "ok"
"""The code of a call that was answered."""
FAULT = "coordinator-fault"
"""The code of one that met a fault of ours."""
_WATCHED = (OK, FAULT, "busy", "no-room", "rate-limited", "too-slow")
"""Codes that are there from the start at zero: a rate misses a series' first number."""
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes and calls since the start; ``ended`` counts by method and code."""

    received_bytes: int
    sent_bytes: int
    ended: Mapping[tuple[str, str], int]


class Meter:
    """What one server did since it started; ``registry`` holds it for a scrape.

    Calls are begun and ended in the server's loop alone.
    """

    def __init__(self) -> None:
        """Start from zero."""
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "orthofed_calls",
            "Calls that ended: method, and 'ok' or the code of the refusal.",
            ("method", "code"),
            registry=self.registry,
        )
        seconds = Histogram(
            "orthofed_call_seconds",
            "Seconds from a call's headers to its reply or refusal.",
            ("method",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        received = Counter(
            "orthofed_received_bytes",
            "Bytes of the messages that arrived whole.",
            ("method",),
            registry=self.registry,
        )
        sent = Counter(
            "orthofed_sent_bytes",
            "Bytes of the replies that were made.",
            ("method",),
            registry=self.registry,
        )
        in_hand = Gauge(
            "orthofed_calls_in_hand",
            "Calls that are being received or answered now.",
            registry=self.registry,
        )
        in_hand.set_function(lambda: self._num_in_hand)
        self._num_in_hand = 0
        self._bytes = (received, sent)
        self._seconds = {method: seconds.labels(name(method)) for method in METHODS}
        self._received = {method: received.labels(name(method)) for method in METHODS}
        self._sent = {method: sent.labels(name(method)) for method in METHODS}
        for method in METHODS:
            for code in _WATCHED:
                self._calls.labels(name(method), code)

    @property
    def in_hand(self) -> int:
        """Calls that are being received or answered now."""
        return self._num_in_hand

    def totals(self) -> Totals:
        """Return what was counted until now, for the page."""
        ended = Sums[tuple[str, str]]()
        for sample in _samples(self._calls):
            ended[sample.labels["method"], sample.labels["code"]] += int(sample.value)
        received, sent = (sum(int(s.value) for s in _samples(each)) for each in self._bytes)
        return Totals(received, sent, ended)

    def began(self) -> None:
        """Count a call that has come."""
        self._num_in_hand += 1

    def arrived(self, method: Method, num_bytes: int) -> None:
        """Count a message that is whole."""
        self._received[method].inc(num_bytes)

    def answered(self, method: Method, num_bytes: int) -> None:
        """Count a reply that was made."""
        self._sent[method].inc(num_bytes)

    def ended(self, method: Method, code: str, seconds: float) -> None:
        """Count a call that is over."""
        self._num_in_hand -= 1
        self._calls.labels(name(method), code).inc()
        self._seconds[method].observe(seconds)


def _samples(counter: Counter) -> list[Sample]:
    """Return a counter's numbers, without when each series began."""
    return [
        sample
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    ]


def name(method: Method) -> str:
    """Return a method as labels and logs name it.

    >>> name(METHODS[0])
    'Federation.GetSpec'
    """
    service, _, call = method.path.rpartition("/")
    return f"{service.rpartition('.')[2]}.{call}"
