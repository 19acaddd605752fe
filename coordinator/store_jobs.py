"""What waits in the store's queue: closures to run in a transaction, and snapshots between two.

Laws: a job answers once, and only what is on the disk; one whose rows were rolled back leaves
nothing in memory either. Not here: when they run (store.py).
"""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Job:
    """One closure, whom it answers, and what it came to; ``alone``: shares no transaction."""

    work: Callable[[sqlite3.Connection], Any]
    future: Future[Any] | None
    after: Callable[[Any], None] | None = None
    undo: Callable[[], None] | None = None
    alone: bool = False
    synced: bool = True
    done: bool = False
    result: Any = None
    error: BaseException | None = None

    def answer(self) -> None:
        """Tell who asked, once; what it came to is on the disk.

        The job lets go of all of it: an error holds frames, and they hold this job.
        """
        future, result, error = self.future, self.result, self.error
        self.future = self.result = self.error = None
        if future is None:
            return
        if error is None and self.after is not None:
            try:
                self.after(result)
            except BaseException as failed:  # noqa: BLE001  # handed to the asking thread
                error = failed
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
        del future, error

    def forget(self) -> None:
        """Undo what the closure left in memory: its rows were rolled back."""
        if self.done and self.undo is not None:
            self.undo()
        self.done, self.result, self.error = False, None, None


@dataclass(slots=True)
class Copy:
    """A snapshot to be made, between transactions."""

    target: Path
    future: Future[None]
