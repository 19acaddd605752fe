"""What a daemon remembers over a restart: the owner's pause, and the bytes sent on this day.

Kept by F1 in one file of JSON; a damaged or missing one means no pause and nothing sent: the
settings still hold, and the concepts' own sessions are kept elsewhere (state.py).
"""

import contextlib
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from .daemon import Pause, State
from .home import write_whole

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
    }
    write_whole(folder / _NAME, json.dumps(record).encode(), mode=0o600)


def reminded(folder: Path, state: State) -> State:
    """Return ``state`` with what was remembered."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((folder / _NAME).read_bytes())
        until = datetime.fromisoformat(record["until"]) if record["until"] else None
        pause = Pause(until, float(record["for_s"])) if record["paused"] is True else None
        day, sent = str(record["day"]), max(0, int(record["sent_bytes"]))
        return replace(state, pause=pause, day=day, sent_bytes=sent)
    return state
