"""One Flower process: a session of its own, an environment from nothing, output to a rotated log.

Laws: it dies with its supervisor (leash.py); whatever it started dies with it, since the whole
group is killed once its leader is gone (a ServerApp outlives its SuperExec otherwise, flower.md 6);
its log takes at most 4 MB. Nothing here decides when.
"""

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

from .leash import leashed

_LOG_BYTES = 1_000_000
_LOGS = 3


class Child:
    """A process that may be started many times, one at a time."""

    def __init__(
        self, name: str, argv: Sequence[str], *, environment: Mapping[str, str], folder: Path
    ) -> None:
        """Keep what to start; it runs in ``folder`` and logs to ``folder/<name>.log``."""
        self.name = name
        self._argv = leashed(argv)
        self._environment = dict(environment)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs, or 0."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it; the caller knows that it does not run."""
        self._process = subprocess.Popen(  # noqa: S603  # our own command line
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env=self._environment,
            start_new_session=True,
        )
        log, output = self._folder / f"{self.name}.log", self._process.stdout
        if output is not None:
            threading.Thread(target=_pump, args=(output, log), daemon=True).start()

    def ended(self) -> int | None:
        """Return the exit status of a process that has just ended, once; its group dies with it."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._signal_group(signal.SIGKILL)
        self._process = None
        return code

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it and all that it started."""
        if self._process is not None:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def _pump(output: IO[bytes], log: Path) -> None:
    """Copy lines to the rotated log until the last writer is gone."""
    handler = RotatingFileHandler(log, maxBytes=_LOG_BYTES, backupCount=_LOGS, encoding="utf-8")
    with output, contextlib.closing(handler):
        while line := output.readline(8192):
            text = line.decode("utf-8", "replace").rstrip()
            handler.emit(logging.LogRecord("", logging.INFO, "", 0, text, None, None))
