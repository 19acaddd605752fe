"""What a person sees while the demo runs: one live line for each process.

On a terminal a bar for each process, redrawn in place; elsewhere one line for each change of phase
and one every ten seconds, so that a log stays readable (product.md 5, progress). It draws events
and decides nothing.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_LINE_EVERY_S = 10.0


@dataclass(slots=True)
class DemoView:
    """One live view of all processes; use it as a context manager."""

    console: Console = field(default_factory=lambda: Console(stderr=True, markup=False))
    _progress: Progress | None = None
    _rows: dict[str, TaskID] = field(default_factory=dict)
    _printed_s: dict[str, float] = field(default_factory=dict)
    _started_s: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Self:
        """Start drawing, if there is a terminal to draw on."""
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description:<14}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[says]}", markup=False),
                TimeElapsedColumn(),
                console=self.console,
            )
            self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave the last state on the screen."""
        if self._progress is not None:
            self._progress.stop()

    def says(self, name: str, text: str, *, done: float | None = None) -> None:
        """Show ``text`` on the row of the process ``name``; ``done`` is a share from 0 to 1."""
        if self._progress is None:
            self._line(name, text, always=done is None)
            return
        if name not in self._rows:
            self._rows[name] = self._progress.add_task(name, total=1.0, says=text)
        self._progress.update(self._rows[name], says=text, completed=done)

    def event(self, name: str, body: Mapping[str, object]) -> None:
        """Show one JSON event of a client (client/train_command.py) on its row."""
        if body.get("event") == "step":
            step, steps = int(str(body["step"])), int(str(body["steps"]))
            loss, eta_s = float(str(body["loss"])), float(str(body["eta_s"]))
            text = f"training {step}/{steps}  loss {loss:.4f}  {eta_s:.0f} s left"
            self.says(name, text, done=step / max(steps, 1))
        elif text := _sentence(body):
            self.says(name, text)

    def _line(self, name: str, text: str, *, always: bool) -> None:
        now_s = time.monotonic()
        if always or now_s - self._printed_s.get(name, -_LINE_EVERY_S) >= _LINE_EVERY_S:
            self._printed_s[name] = now_s
            self.console.print(f"{now_s - self._started_s:6.0f} s  {name:<12} {text}")


def _sentence(body: Mapping[str, object]) -> str:
    match body.get("event"):
        case "leased":
            return f"leased slot {body['slot']} at fence {body['fence']}"
        case "scored":
            return "scored on its own held-out images"
        case "egress":
            return f"sends {int(str(body['bytes'])):,} bytes, and nothing else"
        case "uploading":
            return "uploading"
        case "receipt":
            return "has its receipt"
        case _:
            return ""
