"""What happens, one line each, on stderr: as text, or as a JSON object for a log collector.

``tell("lease-granted", slot=3, fence=1)`` is for what changed and is on the disk; what is refused
or renewed is counted, not told. ``warn`` is for what did not come about and is tried again.
Law: a line holds ids that the ledger, the contract or SuperLink knows, and what a program of ours
or of Flower's says; never a word that somebody typed, a name of a concept, an address or a path.
Members are named by the first 16 digits of their key. Source: security.md 8.
"""

import datetime as dt
import json
import logging
import re
import sys
import traceback
from typing import Literal

_LOG = logging.getLogger("orthofed")
_SHORT = 16
_IDS = ("name", "run", "node")


def tell(event: str, **ids: str | int) -> None:
    """Say that something happened, and to what."""
    _LOG.info(event, extra={"ids": ids})


def warn(event: str, **ids: str | int) -> None:
    """Say that something did not come about."""
    _LOG.warning(event, extra={"ids": ids})


def tell_action(action: object) -> None:
    """Say what a heart asks for: its kind, and those of its fields that are ids.

    ``StopRun(run=3)`` is told as ``stop-run run=3``; a node's key by its name.
    """
    kind = re.sub("(?<=[a-z])(?=[A-Z])", "-", type(action).__name__).lower()
    held = {name: getattr(action, name) for name in getattr(action, "__slots__", ())}
    ids = {name: value for name, value in held.items() if name in _IDS}
    if "key" in held:
        ids["name"] = held["key"].name
    tell(kind, **ids)


def short(key: str) -> str:
    """Return how a key is named here.

    >>> short("0123456789abcdef" * 4)
    '0123456789abcdef'
    """
    return key[:_SHORT]


def to_stderr(how: Literal["text", "json"]) -> None:
    """Send every message of this process to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines() if how == "json" else _Text())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Text(logging.Formatter):
    """``INFO lease-granted slot=3 fence=1``; the time is the service manager's.

    What a program says is quoted, so that it stays on its line.
    """

    def format(self, record: logging.LogRecord) -> str:
        ids = "".join(f" {name}={_word(value)}" for name, value in _ids(record).items())
        first = f"{record.levelname} {record.getMessage()}{ids}"
        return first if record.exc_info is None else f"{first}\n{_trace(record)}"


class _Lines(logging.Formatter):
    """One object a line: ``t`` (UTC), ``level``, ``event``, the ids, and ``trace`` of a fault."""

    def format(self, record: logging.LogRecord) -> str:
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        value = {
            "t": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info is not None:
            value["trace"] = _trace(record)
        return json.dumps(value)


def _ids(record: logging.LogRecord) -> dict[str, str | int]:
    return getattr(record, "ids", {})


def _word(value: str | int) -> str:
    text = str(value)
    return text if re.fullmatch(r"[\w.:/-]+", text, re.ASCII) else json.dumps(text)


def _trace(record: logging.LogRecord) -> str:
    raised = record.exc_info[1] if record.exc_info else None
    return "".join(traceback.format_exception(raised)).rstrip()
