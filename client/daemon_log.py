"""The daemon's log: a line of JSON an event, in files that are begun anew at a size, and stderr.

    home/daemon/log.jsonl, log.jsonl.1, ...    {"t": ..., "event": ..., ...}

stderr has the same in words, for a terminal or the system's journal. Law: what is written is what
`client train --json` prints and what the daemon decides: no image, no caption, no key. Losses stay
here, at home.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

NAME: Final = "log.jsonl"


class DaemonLog:
    """Where the daemon's events go."""

    def __init__(self, folder: Path, *, megabytes: int, files: int) -> None:
        """Open the newest file in ``folder``; ``files`` older ones of that size are kept."""
        self._logger = logging.getLogger(f"orthofed.daemon.{id(self)}")
        self._logger.propagate = False
        self._logger.setLevel(logging.INFO)
        self._file = RotatingFileHandler(
            folder / NAME, maxBytes=megabytes * 1_000_000, backupCount=files, encoding="utf-8"
        )
        self._logger.addHandler(self._file)

    def say(self, event: str, words: str = "", /, **values: object) -> None:
        """Write one event; ``words`` are for people, and nothing is shown without any."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._logger.info("%s", json.dumps({**values, "t": now, "event": event}, default=str))
        if words:
            sys.stderr.write(f"{words}\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Close the file."""
        self._logger.removeHandler(self._file)
        self._file.close()
