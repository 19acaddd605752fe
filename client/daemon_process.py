"""The process of one job, as the daemon sees it: started, heard, interrupted, killed, reaped.

It is a session of its own, so that a Ctrl-C on the daemon's terminal reaches the daemon alone, and
a kill reaches its helpers too. Its stdin stays open: when the daemon dies, it ends, and the job
stops by itself (daemon_job.py). What it says on stderr is kept, from its last start, and no more
than the last megabyte of it. Law: a line
longer than a megabyte, or that is no JSON, is nobody's word. T26: the command is this very
package's; nothing of it comes from a network.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_LINE: Final = 1 << 20
_ERRORS: Final = 1 << 20
_NICER: Final = 10
_COMMAND: Final = (sys.executable, "-P", "-m", "orthofed.client.daemon_job")


class DaemonProcess:
    """One job that runs."""

    def __init__(self, job: Mapping[str, Any], *, stderr: Path) -> None:
        """Start it; ``stderr`` is the file for what its libraries print."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
        self._stderr = stderr
        stderr.unlink(missing_ok=True)
        with stderr.open("ab") as errors:  # appended to, so that it may be cut meanwhile
            self._process = subprocess.Popen(  # noqa: S603  # our own module, no word of a network
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both are pipes")
        self.said = self._process.stdout
        os.set_blocking(self.said.fileno(), False)
        self._kept = b""
        self.is_heard = True  # its output is still watched
        self.is_silent = False  # it closed its output
        os.setpriority(os.PRIO_PROCESS, self.pid, _NICER)
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._process.pid

    def lines(self) -> Iterator[Mapping[str, Any]]:
        """Yield what it said since the last call."""
        self._cut_errors()
        while data := self._read():
            *whole, self._kept = (self._kept + data).split(b"\n")
            self._kept = self._kept[:_LINE]
            for line in whole:
                if (event := _event(line)) is not None:
                    yield event

    def is_over(self) -> bool:
        """Return whether it has ended."""
        return self._process.poll() is not None

    def ask(self) -> None:
        """Have it ask the coordinator for orders; one that has just ended hears nothing."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.write(b"orders\n")
                self._process.stdin.flush()

    @property
    def exit(self) -> int | None:
        """Its exit code, negative for a signal."""
        return self._process.returncode

    def interrupt(self) -> None:
        """Ask it to finish the step, save and end: the signal goes to it alone."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once, and whatever it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # it was faster

    def close(self) -> None:
        """Let go of its pipes once it is over."""
        for pipe in (self._process.stdin, self.said):
            if pipe is not None:
                pipe.close()

    def _cut_errors(self) -> None:
        """Keep the last half of what is allowed once there is more; a full disk waits."""
        with contextlib.suppress(OSError), self._stderr.open("r+b") as errors:
            if errors.seek(0, os.SEEK_END) > _ERRORS:
                errors.seek(-_ERRORS // 2, os.SEEK_END)
                kept = errors.read()
                errors.seek(0)
                errors.write(kept)
                errors.truncate()

    def _read(self) -> bytes:
        try:
            data = os.read(self.said.fileno(), 1 << 16)
        except BlockingIOError:
            return b""
        self.is_silent = not data
        return data


def _event(line: bytes) -> Mapping[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
