"""What the owner's commands say to a running daemon, one line of JSON, and what it answers.

    {"v": 1, "do": "status" | "pause" | "resume" | "leave", "for_s": 7200}
    {"v": 1, "do": "mode", "mode": "always", "for_s": 7200}
    {"v": 1, "daemon": {...daemon_status.py}}    or    {"v": 1, "error": "bad-request"}

Law: a closed schema; what is not in it changes nothing.
"""

import json
from typing import Any, Final, Literal, cast

from . import daemon_state as heart
from .daemon_settings import MODES
from .daemon_status import DaemonStatus

LONGEST_WORD_S: Final = 366 * 86_400

Asked = heart.Event | Literal["status"] | None


def event_of(line: bytes) -> Asked:
    """Return what ``line`` asks for; None where it is no request."""
    try:
        asked = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked, dict):
        return None
    return _asked(cast("dict[str, Any]", asked))


def _asked(fields: dict[str, Any]) -> Asked:
    for_s = fields.pop("for_s", None)
    if for_s is not None and not _is_span(for_s):
        return None
    match fields:
        case {"v": 1, "do": "pause"} if len(fields) == 2:  # noqa: PLR2004  # these two
            return heart.Paused(for_s)
        case {"v": 1, "do": "mode", "mode": mode} if len(fields) == 3 and mode in MODES:  # noqa: PLR2004  # as above
            return heart.Chosen(mode, for_s)
        case {"v": 1, "do": do} if len(fields) == 2 and for_s is None:  # noqa: PLR2004  # as above
            known: dict[str, Asked] = {
                "status": "status",
                "resume": heart.Resumed(),
                "leave": heart.Leave(),
            }
            return known.get(str(do))
        case _:
            return None


def reply(asked: Asked, status: DaemonStatus) -> bytes:
    """Return the line that answers ``asked``."""
    answer = {"error": "bad-request"} if asked is None else {"daemon": status}
    return json.dumps({"v": 1, **answer}).encode()


def _is_span(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value <= LONGEST_WORD_S  # NaN is not, and an integer may have any number of digits
