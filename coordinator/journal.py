"""What happens, one line each, on stderr: as text, or as a JSON object for a log collector.

``tell("lease-granted", slot=3, fence=1)`` is for what changed and is on the disk; a refusal or a
renewal is counted (meter.py), not told. Law: a line holds ids that the ledger or the contract
knows, never a word that somebody typed, a name of a concept, an address or a path. Members are
named by the first 16 digits of their key. Source: security.md 8.
"""

import datetime as dt
import json
import logging
import sys
import traceback
from typing import Literal

_LOG = logging.getLogger("orthofed.coordinator")
_SHORT = 16


def tell(event: str, **ids: str | int) -> None:
    """Say that something happened, and to what."""
    _LOG.info(event, extra={"ids": ids})


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
    """``INFO lease-granted slot=3 fence=1``; the time is the service manager's."""

    def format(self, record: logging.LogRecord) -> str:
        ids = "".join(f" {name}={value}" for name, value in _ids(record).items())
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


def _trace(record: logging.LogRecord) -> str:
    raised = record.exc_info[1] if record.exc_info else None
    return "".join(traceback.format_exception(raised)).rstrip()
