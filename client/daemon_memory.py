"""What a daemon remembers over a restart: the owner's pause, the day's bytes, the orders.

Kept by F1 in one file of JSON; a damaged or missing one means no pause and nothing sent: the
settings still hold, and the concepts' own sessions are kept elsewhere (state.py).
"""

import contextlib
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from .daemon_state import Pause, State
from .home import write_whole
from .order_book import MOST_HELD, Held, OrderBook, OrderState, order_from

_NAME = "state.json"


def remember(folder: Path, state: State) -> None:
    """Write what has to outlive a restart."""
    pause = state.pause
    record = {
        "v": 1,
        "paused": pause is not None,
        "until": pause.until.isoformat() if pause is not None and pause.until else "",
        "for_s": pause.for_s if pause is not None else 0.0,
        "day": state.day,
        "sent_bytes": state.sent_bytes,
        "orders": [
            {
                "order": each.order.id,
                "kind": each.order.kind,
                "concept": each.order.concept,
                "release": each.order.release,
                "state": each.state,
                "code": each.code,
            }
            for each in state.book.held
        ],
    }
    write_whole(folder / _NAME, json.dumps(record).encode(), mode=0o600)


def reminded(folder: Path, state: State) -> State:
    """Return ``state`` with what was remembered."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((folder / _NAME).read_bytes())
        until = datetime.fromisoformat(record["until"]) if record["until"] else None
        pause = Pause(until, float(record["for_s"])) if record["paused"] is True else None
        day, sent = str(record["day"]), max(0, int(record["sent_bytes"]))
        held = tuple(_held(each) for each in record["orders"][-MOST_HELD:])
        return replace(state, pause=pause, day=day, sent_bytes=sent, book=OrderBook(held))
    return state


def _held(record: dict[str, Any]) -> Held:
    """Return one order; what was running when the daemon was killed is in the queue again."""
    order, state = order_from(record), record["state"]
    if order is None or state not in get_args(OrderState):
        raise ValueError(record)
    return Held(order, "queued" if state == "running" else state, str(record["code"]))
