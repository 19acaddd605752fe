"""The operator's orders as an owner's daemon keeps them: known, judged by local policy, answered.

    request on orders.sock -> doubtful -> the coordinator's own list (Orders) -> held | refused
    held: queued -> running -> done,  or waiting for the owner,  or refused

Laws (flower.md 6): a request is a hint; an order counts only if the coordinator says that it is
open, is ours, and equal field by field; then the owner's policy decides. One id is one piece of
work, over restarts too: a hundred copies change nothing. Held orders are bounded, and so are those
that were refused without the coordinator's word, so nobody can push out what is held. Everything
here is a pure function of values; daemon.py asks, daemon_memory.py keeps.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

OrderKind = Literal["train", "score", "withdraw"]
OrderState = Literal["queued", "running", "waiting", "done", "refused"]

LONGEST_LINE: Final = 4_096
MOST_HELD: Final = 1_000
_MOST_DOUBTFUL: Final = 16
_MOST_REFUSED: Final = 64
_MOST_RELEASE: Final = 2**31 - 1
_FIELDS: Final = frozenset({"v", "order", "kind", "fed", "log", "concept", "release"})
_FINAL: Final = frozenset({"done", "refused"})


@dataclass(frozen=True, slots=True)
class Order:
    """One order, as the coordinator and a courier both say it; ``id`` is 32 hex digits."""

    id: str
    kind: OrderKind
    concept: str
    release: int


@dataclass(frozen=True, slots=True)
class Held:
    """An order that the coordinator confirmed, and what came of it; ``code`` says why."""

    order: Order
    state: OrderState = "queued"
    code: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in _FINAL


@dataclass(frozen=True, slots=True)
class OrderBook:
    """All that is known of orders; the newest last."""

    held: tuple[Held, ...] = ()
    doubtful: tuple[Order, ...] = ()  # asked for on the socket; the coordinator was not asked yet
    refused: tuple[Order, ...] = ()  # that the coordinator did not know

    def of(self, order_id: str) -> Held | None:
        """Return the held order of this id."""
        return next((each for each in self.held if each.order.id == order_id), None)

    def asked(self, order: Order) -> "OrderBook":
        """Return the book after a request for ``order``; news only if it is unknown."""
        if self.of(order.id) or order in self.doubtful or order in self.refused:
            return self
        return replace(self, doubtful=(*self.doubtful, order)[-_MOST_DOUBTFUL:])

    def told(self, waiting: Sequence[Order], judge: "Mapping[str, Held]") -> "OrderBook":
        """Return the book after the coordinator's list; ``judge`` has each new order by its id.

        Open orders that it no longer lists are refused with ``not-open``, unless they are done.
        """
        listed = {order.id: order for order in waiting}
        held = [
            each
            if each.is_final or each.order.id in listed
            else replace(each, state="refused", code="not-open")
            for each in self.held
        ]
        held += [judge[order.id] for order in waiting if self.of(order.id) is None]
        strange = tuple(each for each in self.doubtful if listed.get(each.id) != each)
        kept = [each for each in held if each.is_final][-(MOST_HELD - len(waiting)) :]
        return OrderBook(
            tuple(each for each in held if not each.is_final or each in kept),
            (),
            (*self.refused, *strange)[-_MOST_REFUSED:],
        )

    def now(self, order_id: str, state: OrderState, code: str = "") -> "OrderBook":
        """Return the book in which the order of this id is in ``state``."""
        held = tuple(
            replace(each, state=state, code=code) if each.order.id == order_id else each
            for each in self.held
        )
        return replace(self, held=held)


def order_of(line: bytes, *, fed: str, log: str) -> Order | str:
    """Return the order that a request says, or the code of its refusal."""
    if len(line) > LONGEST_LINE:
        return "too-large"
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        return "malformed"
    if not isinstance(asked, dict) or set(cast("dict[str, Any]", asked)) != _FIELDS:
        return "malformed"
    said = cast("dict[str, Any]", asked)
    if type(said["v"]) is not int or said["v"] != 1:
        return "malformed"
    order = order_from(said)
    if order is None or not isinstance(said["fed"], str) or not isinstance(said["log"], str):
        return "malformed"
    return order if (said["fed"], said["log"]) == (fed, log) else "other-federation"


def order_from(said: Mapping[str, Any]) -> Order | None:
    """Return the order in the fields ``order``, ``kind``, ``concept``, ``release``; None: none."""
    order_id, kind, concept, release = (
        said.get(key) for key in ("order", "kind", "concept", "release")
    )
    if not isinstance(order_id, str) or not re.fullmatch(r"[0-9a-f]{32}", order_id):
        return None
    if kind not in ("train", "score", "withdraw"):
        return None
    if not isinstance(concept, str) or not re.fullmatch(r"[a-z0-9-]{3,31}", concept):
        return None
    if type(release) is not int or not 0 <= release <= _MOST_RELEASE:
        return None
    return Order(order_id, kind, concept, release)


def answer(
    order_id: str, state: OrderState, code: str = "", *, step: int = 0, receipt: bytes = b""
) -> bytes:
    """Return the line that answers a request: no loss, no path, no free text."""
    said = {
        "v": 1,
        "order": order_id,
        "state": state,
        "code": code,
        "step": step,
        "receipt": base64.b64encode(receipt).decode(),
    }
    return json.dumps(said).encode()
