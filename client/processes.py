"""Child processes that report by JSON lines: started, read by a thread each, never orphaned.

The demo runs the real commands as separate processes. Each child's stdout is a stream of JSON
objects (product.md 5, ``--json``); its stderr goes to a log file beside its folder. The events
of all children come out of one queue in order of arrival, so that one loop can draw them.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ..core.errors import OrthoFedError

_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Event:
    """One JSON object of the child called ``name``; ``body`` is empty when the child ended."""

    name: str
    body: Mapping[str, object]
    exit_code: int | None = None


@dataclass(slots=True)
class Children:
    """The running children and the queue of what they say. Use it as a context manager."""

    logs: Path
    threads: int = 1
    _running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    _events: "queue.Queue[Event]" = field(default_factory=queue.Queue)

    def __enter__(self) -> Self:
        """Make the folder of the logs."""
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop every child that still runs, politely first."""
        for name in list(self._running):
            self.stop(name)

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start ``orthofed`` with the arguments of ``command``; its events carry ``name``."""
        with (self.logs / f"{name}.log").open("w", encoding="utf-8") as log:
            child = subprocess.Popen(  # noqa: S603  # our own command, no shell
                orthofed(command),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment(),
            )
        self._running[name] = child
        threading.Thread(target=self._read, args=(name, child), daemon=True).start()

    def next_event(self, timeout_s: float) -> Event | None:
        """Return the next event, or None after ``timeout_s`` seconds of silence."""
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=timeout_s)
        return None

    def run(self, command: Sequence[str]) -> str:
        """Run one short command to its end and return what it printed on stdout.

        Raises OrthoFedError: the command failed; the text is the child's own.
        """
        done = subprocess.run(  # noqa: S603  # our own command, no shell
            orthofed(command), capture_output=True, text=True, env=self._environment(), check=False
        )
        with (self.logs / "commands.log").open("a", encoding="utf-8") as log:
            log.write(f"$ orthofed {' '.join(command)}\n{done.stdout}{done.stderr}")
        if done.returncode != 0:
            raise self.failure(" ".join(command[:2]), done.returncode, done.stderr)
        return done.stdout

    def stop(self, name: str) -> None:
        """End the child called ``name``: SIGTERM, and SIGKILL if it has not gone by then."""
        child = self._running.pop(name, None)
        if child is None or child.poll() is not None:
            return
        child.terminate()
        try:
            child.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def failure(self, name: str, exit_code: int, stderr: str | None = None) -> OrthoFedError:
        """Build the error that says what the child called ``name`` said last."""
        text = stderr if stderr is not None else (self.logs / f"{name}.log").read_text()
        tail = "\n".join(text.strip().splitlines()[-12:])
        return OrthoFedError(
            f"{name} ended with exit code {exit_code}:\n{tail}",
            why="every step of the demo has to succeed",
            fix=f"read {self.logs} and run the demo again",
            code="child-failed",
        )

    def _environment(self) -> dict[str, str]:
        """Give each child its share of the cores: threads that fight cost more than they give."""
        share = str(self.threads)
        return {
            **os.environ,
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": share,
            "OPENBLAS_NUM_THREADS": share,
        }

    def _read(self, name: str, child: "subprocess.Popen[str]") -> None:
        stdout = child.stdout
        if stdout is not None:
            for body in _objects(stdout):
                self._events.put(Event(name, body))
        self._events.put(Event(name, {}, exit_code=child.wait()))


def orthofed(command: Sequence[str]) -> list[str]:
    """Return the argument vector that runs ``orthofed`` with this interpreter."""
    return [sys.executable, "-m", "orthofed", *command]


def _objects(lines: Iterable[str]) -> Iterator[dict[str, object]]:
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            body = json.loads(line)
            if isinstance(body, dict):
                yield body
