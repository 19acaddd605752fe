"""When each Flower node was last there, and what was answered about orders. In memory alone.

Laws: nothing but a hint for people and supervisors comes of it, so a restart may forget it all, and
whoever made it up has gained nothing; times are monotonic seconds that the caller gives; at most
``_MOST`` nodes and answers are remembered, the earliest go first. Source: flower.md 4 (L8) and 6.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Said:
    """What a node answered about an order, or somebody in its name: state, code, training step."""

    state: str
    code: str
    step: int


class Sightings:
    """What the bridge saw. Safe for several threads."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._lock = threading.Lock()
        self._nodes: OrderedDict[int, float] = OrderedDict()
        self._reported_s: float | None = None
        self._said: OrderedDict[bytes, Said] = OrderedDict()

    def report(self, nodes: Iterable[int], now_s: float) -> None:
        """Keep that these nodes are there now."""
        with self._lock:
            self._reported_s = now_s
            for node in nodes:
                self._nodes.pop(node, None)
                self._nodes[node] = now_s
            while len(self._nodes) > _MOST:
                self._nodes.popitem(last=False)

    def hear(self, order: bytes, said: Said) -> None:
        """Keep what was answered about an order last."""
        with self._lock:
            self._said.pop(order, None)
            self._said[order] = said
            while len(self._said) > _MOST:
                self._said.popitem(last=False)

    def heard(self, order: bytes) -> Said | None:
        """Return what was answered about an order last."""
        with self._lock:
            return self._said.get(order)

    def node_age_s(self, node: int | None, now_s: float) -> int:
        """Return the seconds since a node was there, rounded up, from 1; 0 for never."""
        with self._lock:
            return _age(None if node is None else self._nodes.get(node), now_s)

    def bridge_age_s(self, now_s: float) -> int:
        """Return the seconds since anything was reported, rounded up, from 1; 0 for never."""
        with self._lock:
            return _age(self._reported_s, now_s)


def _age(then_s: float | None, now_s: float) -> int:
    return 0 if then_s is None else max(1, math.ceil(now_s - then_s))
