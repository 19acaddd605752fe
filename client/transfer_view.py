"""What a person sees while bytes are fetched or checked: a bar, or a line every ten seconds.

It draws and decides nothing; everything goes to stderr (product.md 5, progress).
"""

import time
from dataclasses import dataclass, field
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_LINE_EVERY_S: Final = 10.0
_BYTES: Final = (DownloadColumn(), TransferSpeedColumn())


@dataclass(slots=True)
class TransferView:
    """A live view of one transfer, or of work counted in ``unit``; use it as a context manager."""

    doing: str
    unit: str = "bytes"
    console: Console = field(default_factory=lambda: Console(stderr=True, markup=False))
    _bar: Progress | None = None
    _row: TaskID | None = None
    _printed_s: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Self:
        """Start drawing, if there is a terminal to draw on."""
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=32),
                *(_BYTES if self.unit == "bytes" else (MofNCompleteColumn(),)),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._bar.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()

    def show(self, name: str, done: int, total: int) -> None:
        """Draw that ``done`` of ``total`` are there; ``name`` is the file or layer at hand."""
        if self._bar is not None:
            if self._row is None:
                self._row = self._bar.add_task(self.doing, total=total)
            self._bar.update(self._row, completed=done, total=total)
            return
        now_s = time.monotonic()
        if now_s - self._printed_s >= _LINE_EVERY_S:
            self._printed_s = now_s
            self.console.print(f"{self.doing} {name}  {done:,} of {total:,} {self.unit}")
