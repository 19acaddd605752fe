"""What a daemon remembers over a restart: the owner's words, the day's bytes, the orders.

Kept by F1 in one file of JSON; a damaged or missing one means no word and nothing sent: the
settings still hold, and the concepts' own sessions are kept elsewhere (state.py).
"""

import contextlib
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from .daemon_settings import MODES
from .daemon_state import State, Word
from .home import write_whole
from .order_book import MOST_HELD, Held, OrderBook, OrderState, order_from

_NAME = "state.json"


def remember(folder: Path, state: State) -> None:
    """Write what has to outlive a restart."""
    record = {
        "v": 1,
        "paused": state.pause is not None,
        **_span(state.pause),
        "chosen": state.chosen and {"mode": state.chosen.mode, **_span(state.chosen)},
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
    write_whole(folder / _NAME, json.dumps(record).encode())


def reminded(folder: Path, state: State) -> State:
    """Return ``state`` with what was remembered."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((folder / _NAME).read_bytes())
        pause = Word(None, *_spans(record)) if record["paused"] is True else None
        chosen = _chosen(record.get("chosen"))  # older ones say nothing of it
        day, sent = str(record["day"]), max(0, int(record["sent_bytes"]))
        held = tuple(_held(each) for each in record["orders"][-MOST_HELD:])
        book = OrderBook(held)
        return replace(state, pause=pause, chosen=chosen, day=day, sent_bytes=sent, book=book)
    return state


def _span(word: Word | None) -> dict[str, Any]:
    if word is None or word.until is None:
        return {"until": "", "for_s": 0.0}
    return {"until": word.until.isoformat(), "for_s": word.for_s}


def _spans(record: dict[str, Any]) -> tuple[datetime | None, float]:
    until = datetime.fromisoformat(record["until"]) if record["until"] else None
    return until, float(record["for_s"])


def _chosen(record: dict[str, Any] | None) -> Word | None:
    if record is None:
        return None
    if record["mode"] not in MODES:
        raise ValueError(record)
    return Word(record["mode"], *_spans(record))


def _held(record: dict[str, Any]) -> Held:
    """Return one order; what was running when the daemon was killed is in the queue again."""
    order, state = order_from(record), record["state"]
    if order is None or state not in get_args(OrderState):
        raise ValueError(record)
    return Held(order, "queued" if state == "running" else state, str(record["code"]))
