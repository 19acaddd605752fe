"""When each Flower node was last there, and when the bridge last said so. In memory alone.

Laws: nothing but a hint for people and supervisors comes of it, so a restart may forget it all;
times are monotonic seconds that the caller gives; at most ``_NODES`` nodes are remembered, the
earliest seen go first. Source: flower.md 4 (L8) and 6.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable

_NODES = 10_000


class Sightings:
    """What the bridge saw. Safe for several threads."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self._lock = threading.Lock()
        self._nodes: OrderedDict[int, float] = OrderedDict()
        self._reported_s: float | None = None

    def report(self, nodes: Iterable[int], now_s: float) -> None:
        """Keep that these nodes are there now."""
        with self._lock:
            self._reported_s = now_s
            for node in nodes:
                self._nodes.pop(node, None)
                self._nodes[node] = now_s
            while len(self._nodes) > _NODES:
                self._nodes.popitem(last=False)

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
