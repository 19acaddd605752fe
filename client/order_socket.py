"""What a courier may say on orders.sock and what it hears: bounds, rate, and the kept receipt.

    {"v": 1, "order": ..., "kind": ..., ...}    an order (order_book.py), at most one a second
    {"v": 1, "call": "seen"}                    {"v": 1, "seen_s": 12}: since the coordinator last
                                                saw this member's Flower node; null: no news

Laws: one request a second, a sooner one is refused; what is malformed or of another federation is
refused with a stable code and changes nothing; the answer has an order's state, never a loss, a
path or free text, and a receipt only as it was verified and kept. Source: flower.md 6.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .daemon_orders import answered
from .daemon_state import Opened, State, Unanswered
from .home import Home
from .order_book import LONGEST_LINE, Order, answer, order_from, order_of
from .state import RECEIPT, WITHDRAWAL_RECEIPT

_EVERY_S: Final = 1.0
_NEWS_S: Final = 180.0
"""An older word of the coordinator says nothing about the node any more."""
_BRIDGE_S: Final = 90
"""A bridge that reported nothing for longer makes a silent node no news (flower.md L8)."""
_SEEN: Final = {"v": 1, "call": "seen"}
_NOBODY: Final = "0" * 32


@dataclass(slots=True)
class OrderSocket:
    """The words of one federation's orders."""

    fed: str
    log: str
    _last_s: float = field(default=float("-inf"))
    _asked: str = _NOBODY
    _node_seen_s: float | None = None  # on the monotonic clock; None: no news
    _missed_s: float | None = None  # since when the bridge is well and has never seen the node
    _told_s: float = field(default=float("-inf"))  # when the coordinator said so

    def heard(self, line: Mapping[str, Any], now_s: float) -> None:
        """Keep what the coordinator said of this member's node, with its list of orders.

        Never seen, while the bridge is well, is silence too, from when it was first said: a node
        that was registered anew (F14), and any node after a restart of the coordinator, which
        forgets whom it saw, would else be waited for without end (L8).
        """
        node, bridge = line.get("node_seen_s"), line.get("bridge_seen_s")
        self._told_s = now_s
        if not isinstance(bridge, int) or bridge > _BRIDGE_S:
            self._node_seen_s = self._missed_s = None
        elif isinstance(node, int):
            self._node_seen_s, self._missed_s = now_s - node, None
        else:
            self._missed_s = now_s if self._missed_s is None else self._missed_s
            self._node_seen_s = self._missed_s

    def seen(self, line: bytes, now_s: float) -> bytes | None:
        """Return the answer to a question for the node's last sign; None: it is another line."""
        try:
            asked = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if asked != _SEEN or type(asked["v"]) is not int:
            return None
        age_s = None
        if self._node_seen_s is not None and now_s - self._told_s <= _NEWS_S:
            age_s = int(now_s - self._node_seen_s)
        return json.dumps({"v": 1, "seen_s": age_s}).encode()

    def order(self, line: bytes, now_s: float) -> Order | str:
        """Return what is ordered, or the code of the refusal."""
        found = re.search(rb'"order": ?"([0-9a-f]{32})"', line)
        self._asked = found[1].decode() if found else _NOBODY
        if now_s - self._last_s < _EVERY_S:
            return "rate-limited"
        self._last_s = now_s
        return order_of(line, fed=self.fed, log=self.log)

    def reply(self, order: Order | str, state: State, home: Home) -> bytes:
        """Return the line that answers the request before."""
        if isinstance(order, str):
            return answer(self._asked, "refused", order)
        now, code, step = answered(state, order)
        receipt = _receipt(home, order) if now == "done" else b""
        line = answer(order.id, now, code, step=step, receipt=receipt)
        if len(line) > LONGEST_LINE:  # it is but a hint: the coordinator has the receipt
            line = answer(order.id, now, code, step=step)
        return line


def orders_event(
    line: Mapping[str, Any], phase: Callable[[str], str], roll: float
) -> Opened | Unanswered:
    """Return what a job's word on orders means; ``phase`` gives the saved phase of a concept."""
    if line["event"] != "orders":
        return Unanswered(roll)
    listed = tuple(order for each in line["orders"] if (order := order_from(each)) is not None)
    return Opened(listed, {order.concept: phase(order.concept) for order in listed})


def _receipt(home: Home, order: Order) -> bytes:
    """Return the kept receipt of what the order asked for; of a score there is none."""
    names = {"train": RECEIPT, "withdraw": WITHDRAWAL_RECEIPT}
    if order.kind not in names:
        return b""
    path = home.run(order.concept) / names[order.kind]
    return path.read_bytes() if path.is_file() else b""
